"""Programs without OpenSSL in them, and the Pythons that cannot do without."""

import subprocess
import sys

import pytest

USE = """
import asyncio, hashlib, hmac, pathlib, sys
assert hashlib.sha512(b"").hexdigest().startswith("cf83e1357eefb8bd")
assert {hashlib.new(name) for name in ("sha256", "sha3_256", "blake2b", "sha1", "md5")}
loaded = pathlib.Path("/proc/self/maps").read_text()
print("_hashlib" in loaded, "_ssl" in loaded)
"""


def loaded(before: str) -> list[str]:
    """Whether digests and TLS of OpenSSL's are loaded; a program that complains fails."""
    program = f"import sys\n{before}\nfrom hkswitch import openssl\nopenssl.leave_out()\n{USE}"
    done = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_digests_and_event_loops_work_without_it() -> None:
    assert loaded("") == ["False", "False"]


@pytest.mark.parametrize(
    "missing", ["_md5", "_sha1", "_sha3", "_sha2" if sys.version_info >= (3, 12) else "_sha512"]
)
def test_a_python_that_lacks_a_digest_of_its_own_keeps_those_of_openssl(missing: str) -> None:
    assert loaded(f"sys.modules[{missing!r}] = None") == ["True", "False"]
