"""The `nas` command: options, commands, what they print."""
