"""Decides (core, policy) and acts (runner): the life of one machine."""
