"""The command line: a table of verbs, one file per verb, and what they print."""
