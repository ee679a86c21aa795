"""The messages between the programs, and their validation. Pure: no I/O, no clock, no event loop."""
