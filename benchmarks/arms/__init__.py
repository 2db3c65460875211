"""The same training with Shardline and with alternatives to it."""
