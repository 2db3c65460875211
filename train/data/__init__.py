"""Turning rows of a data file into the tensors of a forward pass."""
