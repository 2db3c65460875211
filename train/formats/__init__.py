"""Data formats: what a row holds, and what becomes of it. One file each, listed in `registry.py`."""
