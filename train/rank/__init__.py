"""The work of one rank, from its setup to the end of training."""
