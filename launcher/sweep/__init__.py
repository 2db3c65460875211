"""Many runs from one command, answered with a verdict."""
