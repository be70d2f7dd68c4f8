"""Observers that come with the package: a webhook, a stream in Redis."""
