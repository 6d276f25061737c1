"""Inspection of run folders: status, integrity checks, and the repair of lost checkpoints."""
