"""Programs that stand in for others."""
