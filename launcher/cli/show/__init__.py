"""What the verbs print for people: tables and lines. Nothing is decided here."""
