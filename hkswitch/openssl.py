"""Keeps OpenSSL out of a process: nobody here speaks TLS, and HomeKit's encryption is another library's.

It must do so before asyncio or hashlib are imported, and imports itself only what hashlib has in its place.
"""

import sys
from typing import Final

_DIGESTS: Final = ("_md5", "_sha1", "_sha3", "_blake2")
_SHA_2: Final = ("_sha2",) if sys.version_info >= (3, 12) else ("_sha256", "_sha512")


def leave_out() -> None:
    """Have asyncio and hashlib not find it; both know how to do without ("The import system", 5.3.1)."""
    sys.modules["ssl"] = None  # type: ignore[assignment] # which says that there is none
    try:
        for name in (*_DIGESTS, *_SHA_2):
            __import__(name)
    except ImportError:
        return  # a Python with OpenSSL's digests only, as Fedora's is
    sys.modules["_hashlib"] = None  # type: ignore[assignment]
