"""Start, change and end runs."""
