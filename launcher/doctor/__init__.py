"""Checks of this machine and of a node of the cluster."""
