"""Sweeps: many runs from one command, compared in a leaderboard."""
