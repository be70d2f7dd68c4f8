"""Frozen values and protocols that all rooms share."""
