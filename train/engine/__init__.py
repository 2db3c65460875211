"""The DeepSpeed engine, its universal checkpoints and copies of its states in host memory."""
