"""Time, memory, goodput, profiles and experiment tracking."""
