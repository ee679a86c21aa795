"""HTTP itself: versions, headers, lengths and what is no HTTP, before and after pair-verify."""

from itertools import product
from typing import Final

from tests.peer.peers import ADMIN
from tests.peer.scenario import Request, Scenario, put, read, send
from tests.peer.scenario import item as _item

BODY: Final = b'{"ttl":2500, "pid":1 }'
TARGET: Final = "/characteristics?id=<web.On>"
HEADERS: Final[dict[str, tuple[str, ...]]] = {
    "Connection: close": ("Connection: close",),
    "Connection: keep-alive": ("Connection: keep-alive",),
    "Upgrade": ("Connection: Upgrade", "Upgrade: websocket"),
    "Accept": ("Accept: text/html",),
    "50 headers": tuple(f"X-{number}: y" for number in range(50)),
    "150 headers": tuple(f"X-{number}: y" for number in range(150)),
    "a header of 5,000 bytes": ("X-Long: " + "y" * 5000,),
    "a header of 20,000 bytes": ("X-Long: " + "y" * 20000,),
    "an empty header": ("X-Empty:",),
    "a header that is not ASCII": ("X-Name: \xe4",),
    "Expect: 100-continue": ("Expect: 100-continue",),
    "Authorization": ("Authorization: 031-45-154",),
}
RAW: Final[dict[str, bytes]] = {
    "HTTP/1.0": f"GET {TARGET} HTTP/1.0\r\n\r\n".encode(),
    "HTTP/1.0 with Host": f"GET {TARGET} HTTP/1.0\r\nHost: x\r\n\r\n".encode(),
    "HTTP/2.0": f"GET {TARGET} HTTP/2.0\r\nHost: x\r\n\r\n".encode(),
    "no version": f"GET {TARGET}\r\n\r\n".encode(),
    "no Host": f"GET {TARGET} HTTP/1.1\r\n\r\n".encode(),
    "two Hosts": f"GET {TARGET} HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n".encode(),
    "an empty Host": f"GET {TARGET} HTTP/1.1\r\nHost:\r\n\r\n".encode(),
    "a method in small letters": f"get {TARGET} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "a method of its own": f"FETCH {TARGET} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "a whole URL": f"GET http://bridge{TARGET} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "no slash": b"GET accessories HTTP/1.1\r\nHost: x\r\n\r\n",
    "an asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "a target of 9,000 bytes": b"GET /characteristics?id=" + b"1" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes in the target": b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "a NUL in the target": b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "two blanks": f"GET  {TARGET} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "bare line feeds": f"GET {TARGET} HTTP/1.1\nHost: x\n\n".encode(),
    "an empty line first": f"\r\nGET {TARGET} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "a folded header": f"GET {TARGET} HTTP/1.1\r\nHost: x\r\nX-A: y\r\n z\r\n\r\n".encode(),
    "a blank before the colon": f"GET {TARGET} HTTP/1.1\r\nHost : x\r\n\r\n".encode(),
    "no colon": f"GET {TARGET} HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n".encode(),
    "a NUL in a header": f"GET {TARGET} HTTP/1.1\r\nHost: x\r\nX-A: \0\r\n\r\n".encode(),
    "a body of a GET": f"GET {TARGET} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode(),
    "a PUT without a length": b"PUT /prepare HTTP/1.1\r\nHost: x\r\n\r\n",
    "a negative length": b"PUT /prepare HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "a length that is no number": b"PUT /prepare HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
    "a length in hex": b"PUT /prepare HTTP/1.1\r\nHost: x\r\nContent-Length: 0x2\r\n\r\n{}",
    "a length of 30 digits": b"PUT /prepare HTTP/1.1\r\nHost: x\r\nContent-Length: "
    + b"9" * 30
    + b"\r\n\r\n",
    "two lengths alike": b"PUT /prepare HTTP/1.1\r\nHost: x\r\n"
    + b"Content-Length: 22\r\n" * 2
    + b"\r\n"
    + BODY,
    "two lengths": b"PUT /prepare HTTP/1.1\r\nHost: x\r\nContent-Length: 22\r\nContent-Length: 2\r\n\r\n"
    + BODY,
    "a length and chunks": b"PUT /prepare HTTP/1.1\r\nHost: x\r\nContent-Length: 22\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks": b"PUT /prepare HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n16\r\n"
    + BODY
    + b"\r\n0\r\n\r\n",
    "chunks that are none": b"PUT /prepare HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "another encoding": b"PUT /prepare HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(60) + b"\r\n\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a response": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "nonsense": b"nonsense\r\n\r\n",
}
WHO: Final = {"before": None, "after": ADMIN}
LARGE: Final = {"60 KiB": 60, "100 KiB": 100}

SCENARIOS: Final = (
    *(
        Scenario(
            f"http {when}: {name}",
            (send(Request("GET", TARGET, headers=headers)),),
            who={"a": WHO[when]},
        )
        for when, (name, headers) in product(WHO, HEADERS.items())
    ),
    *(
        Scenario(f"http {when}: {name}", (send(Request(raw=raw)),), who={"a": WHO[when]})
        for when, (name, raw) in product(WHO, RAW.items())
    ),
    *(
        Scenario(
            f"http after: a body of {name}",
            (send(Request("PUT", "/prepare", b'{"ttl":2500,"pid":1}' + b" " * 1024 * size)),),
        )
        for name, size in LARGE.items()
    ),
    Scenario(
        "http after: Connection: close of a slow write",
        (
            send(
                Request(
                    "PUT",
                    "/characteristics",
                    {"characteristics": [_item("slow.On", value=True)]},
                    headers=("Connection: close",),
                )
            ),
        ),
    ),
    Scenario(
        "http after: Expect: 100-continue of a write",
        (
            send(
                Request(
                    "PUT",
                    "/characteristics",
                    {"characteristics": [_item("web.On", value=True)]},
                    headers=("Expect: 100-continue",),
                )
            ),
        ),
    ),
    *(
        Scenario(
            f"http before: {count} requests at once", (send(*[read("web.On")] * count),), who={"a": None}
        )
        for count in (2, 10)
    ),
    Scenario("http before: a write", (send(put(_item("web.On", value=True))),), who={"a": None}),
)
