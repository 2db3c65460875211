"""Checks before the queue: each compares a config with facts and returns problems."""
