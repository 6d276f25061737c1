"""Runs seen from outside: their status, their integrity, and the repair of lost checkpoints."""
