"""Models: where they come from, how they are loaded and compiled, and their loss."""
