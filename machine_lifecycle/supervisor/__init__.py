"""Child processes: start, watch, restart, stop, logs, adoption."""
