"""The node agent: it starts the ranks of one node, watches them and starts them again."""
