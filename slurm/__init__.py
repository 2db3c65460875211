"""Knows the scheduler: executors and the environment of a task. Standard library and submitit only."""
