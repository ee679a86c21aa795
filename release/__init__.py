"""Tools for maintainers who make releases. They are not installed."""
