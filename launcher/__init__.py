"""The login node's half: compose a config, plan it, refuse what cannot work, submit, watch."""

__version__ = "0.1.0"
