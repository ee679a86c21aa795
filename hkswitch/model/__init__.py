"""The decision logic of hkswitch: pure functions and values, without I/O, clock, event loop or logging."""
