"""What makers of a release need and users do not. Nothing of it is installed."""
