"""What planning observes of this machine, the data, the model and the folds."""
