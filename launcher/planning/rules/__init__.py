"""Rules that are checked before a job is submitted. Each compares a config with facts and yields problems."""
