"""The states of a machine, their table, and what happens in each booting state."""
