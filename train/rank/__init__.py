"""What one rank does, from its setup to the end of training."""
