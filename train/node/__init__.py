"""The node agent, which starts, watches and restarts the ranks of one node."""
