"""A simulated world around hkswitch, in virtual time and without processes and sockets."""
