"""The packages whose versions matter, in one list. Torch-free."""

COMPUTING = ("torch", "deepspeed", "transformers")
"""What computes and what is inside checkpoints: another minor version may give other numbers."""
RECORDED = (*COMPUTING, "datasets", "hydra-core", "submitit", "wandb", "numpy")
"""What is recorded with the frozen code, and must be alike on login and compute nodes."""
