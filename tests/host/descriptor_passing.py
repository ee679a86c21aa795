"""Preludes of two programs, by which a compromised daemon passes open files to a process of another user."""

from typing import Final

RECEIVER: Final = """
import os, socket, subprocess, sys, time
listening = socket.socket(socket.AF_UNIX)
listening.bind("\\0pass-descriptors")
listening.listen()
print("listening", flush=True)
receiver, _ = listening.accept()
"""
"""Prints "listening", then accepts the sender's connection as `receiver`."""

SENDER: Final = """
import os, socket, subprocess, sys, time
sender = socket.socket(socket.AF_UNIX)
sender.connect("\\0pass-descriptors")
"""
"""Connects to the receiver as `sender`."""
