"""The packages whose versions matter. Torch-free."""

COMPUTING = ("torch", "deepspeed", "transformers")
"""Packages that compute or are stored in checkpoints; another minor version may change the results."""
RECORDED = (*COMPUTING, "datasets", "hydra-core", "submitit", "wandb", "numpy")
"""Packages recorded with the code snapshot, whose versions must match on login and compute nodes."""
