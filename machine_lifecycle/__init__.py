"""Turns a bare GPU machine or container into one that takes jobs."""

__all__: list[str] = []
