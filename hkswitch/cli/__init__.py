"""The program `hkswitch`: a module for each command. Decisions belong to the daemon."""
