"""Checkpoints that are whole, proven and found again."""
