"""A simulated world: what hkswitch deals with, in virtual time and without a process or a socket."""
