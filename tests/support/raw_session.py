"""A controller's encrypted connection without an event loop, which asks and need not read."""

import socket
import struct
from contextlib import suppress
from typing import Any, Final

from aiohomekit.protocol import get_session_keys
from aiohomekit.protocol.tlv import TLV
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

TIMEOUT_SECONDS: Final = 10
LARGEST_FRAME_BYTES: Final = 1024
RECEIVED_UNREAD_BYTES: Final = 64 * 1024
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER with no time: a close is a RST
TCP_CLOSE: Final = 7  # linux/tcp_states.h


class Session:
    """Authenticated by pair-verify, and encrypted."""

    def __init__(self, address: str, port: int, pairing: dict[str, Any], *, own_address: str = "") -> None:
        """Connect and authenticate; raises `OSError` if the bridge closes the connection."""
        own = (own_address, 0) if own_address else None
        self._socket = socket.create_connection((address, port), TIMEOUT_SECONDS, source_address=own)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED_UNREAD_BYTES)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        derive = self._verified(pairing)
        self._cipher = ChaCha20Poly1305(derive(b"Control-Salt", b"Control-Write-Encryption-Key"))
        self._sent = 0
        self._socket.setblocking(False)

    def request(self, request: bytes) -> None:
        """Send a request, and do not wait; raises `BlockingIOError` if there is no room for it."""
        frames = b""
        for start in range(0, len(request), LARGEST_FRAME_BYTES):
            part = request[start : start + LARGEST_FRAME_BYTES]
            length = struct.pack("<H", len(part))
            nonce = bytes(4) + struct.pack("<Q", self._sent)
            frames += length + self._cipher.encrypt(nonce, part, length)
            self._sent += 1
        assert self._socket.send(frames) == len(frames)

    def is_closed(self) -> bool:
        """Whether the bridge has closed it; reads what it sent."""
        with suppress(BlockingIOError):
            try:
                while self._socket.recv(65536):
                    pass
            except ConnectionError:
                return True
            return True
        return False

    def is_cut(self) -> bool:
        """Whether the bridge has reset it; reads nothing."""
        return self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE

    def close(self) -> None:
        """Reset it."""
        self._socket.close()

    def _verified(self, pairing: dict[str, Any]) -> Any:  # noqa: ANN401 -- aiohomekit's types are too wide
        steps: Any = get_session_keys(pairing)
        request, _ = next(steps)
        while True:
            try:
                request, _ = steps.send(TLV.decode_bytes(self._post(bytes(TLV.encode_list(request)))))
            except StopIteration as result:
                return result.value[1]

    def _post(self, body: bytes) -> bytes:
        head = f"POST /pair-verify HTTP/1.1\r\nHost: bridge\r\nContent-Length: {len(body)}\r\n\r\n"
        self._socket.sendall(head.encode() + body)
        received = b""
        while True:
            if not (more := self._socket.recv(65536)):
                raise ConnectionAbortedError
            received += more
            headers, found, answer = received.partition(b"\r\n\r\n")
            if found and len(answer) >= _length(headers):
                return answer


def _length(headers: bytes) -> int:
    lines = headers.lower().splitlines()
    return next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
