"""hkswitch beside HAP-NodeJS, in the same scenarios, and controllers that share no code with it."""
