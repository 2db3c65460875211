"""What a model scores and says, before and after."""
