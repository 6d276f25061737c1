"""The parts of own_data.py: the data sets, and what the search is compared with."""
