"""Data formats, which define the fields and the rendering of a row. One file each; see `registry.py`."""
