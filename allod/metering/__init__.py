"""Price book, usage to cost. Pure."""
