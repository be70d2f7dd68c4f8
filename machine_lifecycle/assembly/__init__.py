"""Puts the rooms together into one machine; the façade in ``machine.py`` is its only user."""

__all__: list[str] = []
