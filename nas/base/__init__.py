"""What every part of the engine uses: errors, text, seeds, the machine, a user's own code."""
