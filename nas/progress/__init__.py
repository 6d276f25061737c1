"""The progress of a run as people see it: on a terminal, in a notebook, in a log."""
