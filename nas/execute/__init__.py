"""Where trials are performed: an executor, its workers, and one trial's work."""
