"""Features of the processor and of the installed compilers."""
