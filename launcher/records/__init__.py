"""Typed records of what run and sweep directories hold; they are read on login and compute nodes."""
