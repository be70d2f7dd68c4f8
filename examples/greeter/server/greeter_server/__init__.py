"""The server that greets."""
