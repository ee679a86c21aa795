"""The messages between the programs, and their validation. Pure: no I/O, no clock, no event loop.

One exception: credentials.py reads one option of a socket that its caller has.
"""
