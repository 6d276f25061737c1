"""The parts of zoo.py: its models, what is measured of each, the sums."""
