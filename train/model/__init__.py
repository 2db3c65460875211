"""Models: sources, loading, compilation, loss and optimizer."""
