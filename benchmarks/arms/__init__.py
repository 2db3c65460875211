"""The same training by Shardline and by what its users would take instead."""
