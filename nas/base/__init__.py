"""Helpers for all parts of the engine: errors, text, seeds, the machine, the user's own code."""
