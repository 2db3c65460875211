"""Typed records in run and sweep directories, read on login and compute nodes."""
