"""Scores and answers of a model before and after training."""
