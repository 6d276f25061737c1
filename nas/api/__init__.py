"""The calls of `import nas`: search, resume and open runs from Python. The command line is a caller of it."""
