"""What the parsers are given by machines: rules for whatever they are given, and ways to think of it."""
