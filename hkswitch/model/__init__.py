"""What hkswitch decides. Pure: no I/O, no clock, no event loop, no logging."""
