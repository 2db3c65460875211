"""Facts about this machine, the data, the model and the folds, gathered for planning."""
