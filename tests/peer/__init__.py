"""hkswitch beside HAP-NodeJS, in the same conversations, and controllers that share no code with it."""
