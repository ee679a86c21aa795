"""How a daemon that was taken over hands its open files to another user: what programs for it begin with."""

from typing import Final

TAKING: Final = """
import os, socket, subprocess, sys, time
listening = socket.socket(socket.AF_UNIX)
listening.bind("\\0give")
listening.listen()
print("listening", flush=True)
taking, _ = listening.accept()
"""
"""Says that it listens, and has a connection to who gives."""

GIVING: Final = """
import os, socket, subprocess, sys, time
giving = socket.socket(socket.AF_UNIX)
giving.connect("\\0give")
"""
"""Has a connection to who takes."""
