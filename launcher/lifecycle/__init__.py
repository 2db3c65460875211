"""Starting, changing and ending runs."""
