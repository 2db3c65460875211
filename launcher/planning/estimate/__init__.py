"""Estimates of memory, disk space and time, from the shape of the model. Pure functions."""
