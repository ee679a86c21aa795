"""The environment of programs that root's command line, the doctor and the helper start. Pure: no I/O.

It is constant: the caller's environment may hold secrets or change what runs, so it is not passed on.
"""

from typing import Final

SEARCH_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The folders to search for programs, in root's order."""

CHILD_ENVIRONMENT: Final = {"PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8"}
"""With this locale, programs print messages in English and in UTF-8."""
