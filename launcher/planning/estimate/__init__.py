"""What a run will need, computed from its shape before it exists. Pure."""
