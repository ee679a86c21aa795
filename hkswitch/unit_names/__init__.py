"""The names of units and containers: which ones exist, and what to do about those that cannot be used."""
