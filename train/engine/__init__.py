"""The DeepSpeed engine, universal checkpoints, and copies of its states in host memory."""
