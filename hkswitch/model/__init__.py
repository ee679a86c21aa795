"""The decisions of hkswitch, as pure functions and values: no I/O, no clock, no event loop, no logging."""
