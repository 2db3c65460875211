"""Checks of this machine and of a compute node."""
