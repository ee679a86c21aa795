"""The program `hkswitch`: a module for each command. It decides nothing that is for the daemon to decide."""
