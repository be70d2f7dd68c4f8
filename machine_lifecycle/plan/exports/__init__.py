"""The plan's processes in the words of other process supervisors. Secrets go by reference."""
