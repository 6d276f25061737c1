"""The parts of equal_cost.py: data, budgets, networks, and one module for each way to spend a budget."""
