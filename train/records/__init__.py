"""Typed records: frozen dataclasses that are written as JSON and checked when read."""
