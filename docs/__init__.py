"""The documentation, and the programs that generate parts of it. Not part of the wheel."""
