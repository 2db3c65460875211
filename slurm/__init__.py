"""The scheduler: submission, job states and the environment of a task. Uses pydantic and submitit only."""
