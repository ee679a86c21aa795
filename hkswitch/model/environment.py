"""The environment of programs that root's command line, the doctor and the helper start. Pure: no I/O.

It is constant: a caller's environment is for the caller alone, and may hold secrets or change what runs.
"""

from typing import Final

SEARCH_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The folders of programs, in root's order."""

CHILD_ENVIRONMENT: Final = {"PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8"}
"""English messages in UTF-8, which every program can write."""
