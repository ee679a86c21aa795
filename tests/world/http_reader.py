"""What a controller reads from its connection: responses, and events, which look alike. Pure."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

HEAD_END = b"\r\n\r\n"


class Heard(NamedTuple):
    """One message."""

    is_event: bool
    status: int
    body: Any
    """What its JSON says, None where there is none; bytes if it is something else."""


class Reader:
    """Takes messages out of a stream."""

    def __init__(self) -> None:
        self._received = b""

    def read(self, received: bytes) -> Iterator[Heard]:
        """The messages that are complete now."""
        self._received += received
        while HEAD_END in self._received:
            head, _, rest = self._received.partition(HEAD_END)
            first, *lines = head.decode().split("\r\n")
            protocol, status, _ = first.split(" ", 2)
            headers = dict(line.lower().split(": ", 1) for line in lines)
            assert "transfer-encoding" not in headers, "iOS does not like chunks"
            length = int(headers.get("content-length", "0"))
            if len(rest) < length:
                return
            self._received = rest[length:]
            assert protocol in {"HTTP/1.1", "EVENT/1.0"}, first
            is_json = headers.get("content-type") == "application/hap+json"
            body = json.loads(rest[:length]) if is_json else rest[:length] or None
            yield Heard(protocol == "EVENT/1.0", int(status), body)


def request(method: str, path: str, body: Any = None) -> bytes:  # noqa: ANN401 -- as JSON has it
    """A request, with a body of JSON if there is one."""
    said = b"" if body is None else json.dumps(body).encode()
    length = f"Content-Length: {len(said)}\r\n" if said else ""
    return f"{method} {path} HTTP/1.1\r\nHost: bridge\r\n{length}\r\n".encode() + said
