"""The settings of a run: declared once, read from defaults, recipes, options and stored runs."""
