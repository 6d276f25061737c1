"""A run from its first trial to its final network: plan, engine, final training, retention, replay."""
