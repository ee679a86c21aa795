"""Keeps OpenSSL out of the daemon and the helper: docs/benchmarks.md, "Three shortcuts", shows the savings.

Neither uses TLS, and HomeKit's encryption comes from the cryptography library. Call `leave_out` before
asyncio or hashlib is imported.
"""

import sys
from typing import Final

_DIGESTS: Final = ("_md5", "_sha1", "_sha3", "_blake2")
_SHA_2: Final = ("_sha2",) if sys.version_info >= (3, 12) else ("_sha256", "_sha512")


def leave_out() -> None:
    """Make imports of OpenSSL fail ("The import system", 5.3.1); asyncio and hashlib work without it."""
    sys.modules["ssl"] = None  # type: ignore[assignment] # None makes the import fail
    try:
        for name in (*_DIGESTS, *_SHA_2):
            __import__(name)
    except ImportError:
        return  # a Python that has only OpenSSL's digests, like Fedora's
    sys.modules["_hashlib"] = None  # type: ignore[assignment]
