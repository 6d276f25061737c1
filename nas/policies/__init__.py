"""Search policies and move samplers: pure functions of the ledger's view."""
