"""The part of the launcher that runs on compute nodes."""
