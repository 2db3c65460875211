"""Typed records: how a frozen dataclass becomes a line or a file of JSON, and is read back and checked."""
