"""Displays the progress of a run: on a terminal, in a notebook, in a log."""
