"""What the processor and the installed compilers can do."""
