"""The environment of programs that the command line and the doctor start. Pure: no I/O.

It is constant: both run as root, and root's environment is not passed on.
"""

from typing import Final

SEARCH_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

CHILD_ENVIRONMENT: Final = {"PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8"}
"""English messages in UTF-8, which every program can write."""
