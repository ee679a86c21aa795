"""The environment of what the command line and the doctor start: constant, and nothing of theirs. Pure.

Both run as root, and what is in root's environment is for root alone.
"""

from typing import Final

FOLDERS: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

ENVIRONMENT: Final = {"PATH": FOLDERS, "LC_ALL": "C.UTF-8"}
"""In English, and in characters that every program can write."""
