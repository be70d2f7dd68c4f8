"""The local Unix socket: commands to a running machine, links to its workers."""
