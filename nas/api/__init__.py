"""The Python API behind `import nas`: search, resume and open runs. The command line calls it too."""
