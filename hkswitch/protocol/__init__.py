"""The messages between the programs, and how they are checked. Pure: no I/O, no clock, no event loop."""
