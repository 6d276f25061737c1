"""What a search can be made of, by name: an explicit value, ours, and what others bring."""
