"""The engine: data, training, search policy, ledger, executors, report and command line."""
