"""Hostile input: any input gets a valid HTTP response or none, and changes nothing.

Hypothesis draws the input, mutates a few bytes in several ways, and cuts it into pieces. Each input has its
own connection, without sockets. `--long` sends over 100,000 inputs that differ from run to run.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from pyhap.hap_crypto import hap_hkdf
from pyhap.hap_handler import HAPServerHandler

from hkswitch.hap import pair_setup, pairing_rules
from tests.support.inprocess import ADMIN, ADMIN_KEY, USER, Answer, Fed, InProcess, is_removal
from tests.support.raw_client import DATA, METHOD, PROOF, PUBLIC_KEY, STATE, USERNAME, tlv

SIGNATURE, PERMISSIONS = 10, 11
"""Types of parts that only these messages have (HAP specification, table 5-6)."""

CHANGES = 31
"""Mutations of each drawn input, each on its own connection."""

EXAMPLES, LONGER = 24, 28
"""How many are drawn for each test, and how many times more there are with --long."""

# What is sent


@dataclass(frozen=True)
class Request:
    """A request; `length` says whether it has the right Content-Length."""

    method: bytes
    target: bytes
    body: bytes = b""
    version: bytes = b"HTTP/1.1"
    headers: tuple[bytes, ...] = (b"Host: bridge",)
    length: bool = True

    def encode(self) -> bytes:
        lengths = [b"Content-Length: %d" % len(self.body)] if self.length else []
        first = b" ".join([self.method, self.target, self.version])
        return b"\r\n".join([first, *self.headers, *lengths, b"", self.body])


class Bytes(Request):
    """A body without a request."""

    def encode(self) -> bytes:
        return self.body


@dataclass(frozen=True)
class Change:
    """One byte replaced, put in or left out, the rest cut off, or a part twice; maybe in a body only."""

    how: int
    where: int
    byte: int

    def of(self, requests: tuple[Request, ...]) -> bytes:
        if self.how < 128:
            return self.of_bytes(b"".join(request.encode() for request in requests))
        chosen = self.byte % len(requests)
        return b"".join(
            (replace(request, body=self.of_bytes(request.body)) if number == chosen else request).encode()
            for number, request in enumerate(requests)
        )

    def of_bytes(self, plain: bytes) -> bytes:
        at = self.where % (len(plain) + 1)
        match self.how % 5:
            case 0:
                return plain[:at] + bytes([self.byte]) + plain[at + 1 :]
            case 1:
                return plain[:at] + bytes([self.byte]) + plain[at:]
            case 2:
                return plain[:at] + plain[at + 1 + self.byte % 4 :]
            case 3:
                return plain[:at]
        return plain[:at] + plain[max(0, at - self.byte) :]


@dataclass(frozen=True)
class Sent:
    """Requests, and what is done to them."""

    requests: tuple[Request, ...]
    changes: tuple[Change, ...]
    cuts: tuple[int, ...]
    waits: bool
    """Whether the other side stays until the last answer."""

    def inputs(self) -> Iterator[bytes]:
        yield b"".join(request.encode() for request in self.requests)
        for change in self.changes:
            yield change.of(self.requests)


def some_changes(drawn: bytes) -> tuple[Change, ...]:
    """Four bytes each."""
    numbers = zip(*(iter(drawn),) * 4, strict=True)
    return tuple(Change(how, high << 8 | low, byte) for how, high, low, byte in numbers)


changes = st.binary(min_size=4 * CHANGES, max_size=4 * CHANGES).map(some_changes)
cuts = st.binary(max_size=3).map(lambda drawn: tuple(cut * 7 for cut in drawn))


def sending(one: st.SearchStrategy[Request], most: int = 3) -> st.SearchStrategy[Sent]:
    requests = st.lists(one, min_size=1, max_size=most).map(tuple)
    return st.builds(Sent, requests, changes, cuts, st.booleans())


PAIRING_PATHS = [b"/pair-setup", b"/pair-verify", b"/pairings"]
PATHS = [*PAIRING_PATHS, b"/accessories", b"/characteristics", b"/prepare", b"/resource"]
ODD_PATHS = [b"/", b"*", b"", b"//accessories", b"http://[", b"http://x/accessories", b"/\xe9", b"?", b"/%61"]
ODD_METHODS = [b"HEAD", b"CONNECT", b"OPTIONS", b"PATCH", b"get", b"", b"\0", b"G\xe9T"]
ODD_VERSIONS = [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.11", b"", b"\xff"]
ODD_HEADERS = [
    b"Content-Length: 0",
    b"Content-Length: 3",
    b"Content-Length: -1",
    b"Content-Length: 65536",
    b"Content-Length: 65537",
    b"Content-Length: 99999999999999999999",
    b"Content-Length: 1, 1",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: upgrade",
    b"Upgrade: h2c",
    b"Expect: 100-continue",
    b"Host: another",
    b"X: " + b"x" * 17_000,
    b": x",
    b" folded",
    b"X\0: \xff",
]


def mostly(good: list[bytes], odd: list[bytes]) -> st.SearchStrategy[bytes]:
    """Three in four are good."""
    often = good * (3 * len(odd) // len(good) + 1)
    return st.sampled_from(often + odd)


tags = st.sampled_from(
    [METHOD, USERNAME, 2, PUBLIC_KEY, PROOF, DATA, STATE, 7, 9, SIGNATURE, PERMISSIONS, 255]
)
values = st.sampled_from([b"", b"\0", b"\1", b"\2", b"\3", b"\4", b"\5", b"k" * 32, b"p" * 64, b"x" * 384])
parts = st.tuples(tags, values | st.binary(max_size=40))
messages = st.lists(parts, max_size=5).map(lambda some: tlv(*some))
steps = st.builds(
    lambda step, some: tlv((STATE, step), *some),
    st.sampled_from([b"\1", b"\3", b"\5"]),
    st.lists(parts, max_size=4),
)

OWN_IDS = [str(client).upper().encode() for client in (ADMIN, USER)]
ODD_IDS = [
    b"99999999-0000-4000-8000-000000000000",
    b"",
    b"x" * 36,
    b"\xff" * 36,
    b"{" + b"9" * 32 + b"}",
    b"\n" + b"9" * 31,
]
managements = st.builds(
    lambda method, who, key, level, more: tlv(
        (STATE, b"\1"), (METHOD, method), (USERNAME, who), (PUBLIC_KEY, key), (PERMISSIONS, level), *more
    ),
    st.sampled_from([b"\3"] * 4 + [b"\4"] * 2 + [b"\5", b"\6", b"", b"\3\3"]),
    st.sampled_from(OWN_IDS + ODD_IDS),
    st.sampled_from([b"k" * 32] * 3 + [b"", b"k" * 33]),
    st.sampled_from([b"\0", b"\1"] * 3 + [b"\2", b"", b"\1\1"]),
    st.lists(parts, max_size=1),
)

scalars: st.SearchStrategy[object] = st.sampled_from(
    [None, True, False, 0, 1, 2, -1, 9, 99, 2**63, 0.5, 1e300, "", "x", "é\0", [], {}, [[]], {"x": {}}]
)
objects = st.fixed_dictionaries(
    {}, optional={"characteristics": st.lists(scalars, max_size=2) | scalars, "pid": scalars, "ttl": scalars}
)
documents = (scalars | objects).map(lambda body: json.dumps(body).encode())
documents |= st.sampled_from([b"", b"{", b"[" * 2_000, b"\xff", b"NaN"])

blobs = st.binary(max_size=200) | st.sampled_from(
    [b"\r\n" * 100, b"GET / HTTP/1.1\r\n" * 1_200, bytes(20_000)]
)
raw = blobs.map(lambda blob: Bytes(b"", b"", blob))
requests = st.builds(
    Request,
    mostly([b"GET", b"PUT", b"POST"], ODD_METHODS),
    mostly(PATHS, ODD_PATHS)
    | st.builds(lambda path, more: path + more, mostly(PATHS, ODD_PATHS), st.binary(max_size=4)),
    documents | messages,
    mostly([b"HTTP/1.1"], ODD_VERSIONS),
    st.lists(
        mostly([b"Accept: */*", b"Content-Type: application/pairing+tlv8"], ODD_HEADERS), max_size=2
    ).map(lambda some: (b"Host: bridge", *some)),
    st.booleans(),
)
pairing = st.builds(Request, st.just(b"POST"), st.sampled_from(PAIRING_PATHS), steps | messages)


def tapping(paths: list[tuple[int, int]]) -> st.SearchStrategy[Request]:
    """Requests as a controller sends them about these characteristics, or nearly so."""
    ids = st.sampled_from([b"%d.%d" % path for path in paths] * 2 + ODD_READS)
    reads = st.lists(ids, max_size=5).map(lambda some: b"/characteristics?id=" + b",".join(some))
    whats = st.fixed_dictionaries({}, optional={"value": st.booleans() | scalars, "ev": st.booleans()})
    items = st.builds(
        lambda path, what: {"aid": path[0], "iid": path[1]} | what, st.sampled_from(paths), whats
    )
    odd_items = st.fixed_dictionaries({}, optional=dict.fromkeys(["aid", "iid", "value", "ev", "x"], scalars))
    writes = st.builds(
        lambda some, more: json.dumps({"characteristics": some} | more).encode(),
        st.lists(items | odd_items, max_size=4),
        st.sampled_from([{}, {}, {"pid": 5}, {"pid": []}, {"pid": None}]),
    )
    prepares = st.sampled_from(
        [b'{"ttl":5000,"pid":5}'] * 3 + [b'{"ttl":5000,"pid":[]}', b'{"ttl":99999,"pid":5}']
    )
    return (
        (writes | documents).map(lambda body: Request(b"PUT", b"/characteristics", body))
        | (prepares | documents).map(lambda body: Request(b"PUT", b"/prepare", body))
        | reads.map(lambda target: Request(b"GET", target))
        | (managements | managements | messages).map(lambda body: Request(b"POST", b"/pairings", body))
        | st.just(Request(b"GET", b"/accessories"))
    )


ODD_READS = [
    b"99.1",
    b"1.2.3",
    b"",
    b".",
    b"-1.2",
    b"x",
    b"1.",
    b"9" * 20 + b".1",
    b"%31.2",
    b"\xb2.1",
    b"1.2&id=1.3",
]

# What is sealed

OURS, SRP_KEY, RIGHT_PROOF = X25519PrivateKey.from_private_bytes(b"o" * 32), b"K" * 64, b"right" * 12
NEW_KEY, NEW_ID = Ed25519PrivateKey.from_private_bytes(b"n" * 32), b"99999999-0000-4000-8000-000000000000"
TO_BE_SIGNED = b"S" * 64
"""Stands for the signature of a pair-verify, which depends on what the bridge says."""


def own_identity() -> bytes:
    """Return the data that is signed in pair-setup."""
    signed = hap_hkdf(SRP_KEY, HAPServerHandler.PAIRING_4_SALT, HAPServerHandler.PAIRING_4_INFO)
    return bytes(signed) + NEW_ID + NEW_KEY.public_key().public_bytes_raw()


def seal(inner: bytes) -> bytes:
    """Return the last message of a pair-setup."""
    key = hap_hkdf(SRP_KEY, HAPServerHandler.PAIRING_3_SALT, HAPServerHandler.PAIRING_3_INFO)
    sealed = ChaCha20Poly1305(key).encrypt(HAPServerHandler.PAIRING_3_NONCE, inner, b"")
    return tlv((STATE, b"\5"), (DATA, sealed))


def inner(identity: bytes, key: bytes, signature: bytes) -> st.SearchStrategy[bytes]:
    """Draw the contents of an encrypted message, valid or nearly so."""
    right = [(USERNAME, identity), (PUBLIC_KEY, key), (SIGNATURE, signature)]
    wrong = st.sampled_from(
        [(USERNAME, odd) for odd in ODD_IDS + OWN_IDS]
        + [(PUBLIC_KEY, odd) for odd in (b"", b"k" * 31, b"k" * 32, bytes(32))]
        + [(SIGNATURE, odd) for odd in (b"", b"s" * 63, b"s" * 64)]
    )
    with_others = st.tuples(*(st.just(part) | wrong for part in right)).map(list)
    return (with_others | st.lists(st.sampled_from(right) | wrong | parts, max_size=4)).map(
        lambda some: tlv(*some)
    )


setup_bodies = (
    st.sampled_from(
        [tlv((STATE, b"\1"), (METHOD, b"\0"))] * 3
        + [
            tlv((STATE, b"\3"), (PUBLIC_KEY, b"k" * 384), (PROOF, proof))
            for proof in (RIGHT_PROOF, RIGHT_PROOF, b"")
        ]
    )
    | inner(NEW_ID, NEW_KEY.public_key().public_bytes_raw(), NEW_KEY.sign(own_identity())).map(seal)
    | steps
)
in_order = st.tuples(
    *(
        st.just(body) | setup_bodies
        for body in (
            tlv((STATE, b"\1"), (METHOD, b"\0")),
            tlv((STATE, b"\3"), (PUBLIC_KEY, b"k" * 384), (PROOF, RIGHT_PROOF)),
        )
    ),
    inner(NEW_ID, NEW_KEY.public_key().public_bytes_raw(), NEW_KEY.sign(own_identity())).map(seal),
).map(list)
setups = st.builds(
    lambda bodies, *rest: Sent(tuple(Request(b"POST", b"/pair-setup", body) for body in bodies), *rest),
    in_order | st.lists(setup_bodies, min_size=1, max_size=4),
    changes,
    cuts,
    st.booleans(),
)

# How it is sent


@pytest.fixture(scope="module", autouse=True)
def settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hypothesis writes nothing into the tree, and the state need not survive a loss of power."""
    set_hypothesis_home_dir(tmp_path_factory.mktemp("hypothesis"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@dataclass
class Fuzzing:
    """A bridge, and how much is sent to it."""

    loop: asyncio.AbstractEventLoop
    own: InProcess
    long: bool
    inputs: int = 0

    def run(
        self, examples: int, drawn: st.SearchStrategy[Sent], send: Callable[[bytes, Sent], Awaitable[None]]
    ) -> None:
        """Draw so often, or more often if there is time, and send it in all its changes."""
        often = examples * LONGER if self.long else examples

        @settings(
            max_examples=often,
            derandomize=not self.long,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(drawn)
        def example(sent: Sent) -> None:
            self.loop.run_until_complete(self._each(sent, send))

        example()
        assert self.inputs >= often * (CHANGES + 1)

    async def _each(self, sent: Sent, send: Callable[[bytes, Sent], Awaitable[None]]) -> None:
        for data in sent.inputs():
            self.inputs += 1
            await send(data, sent)

    async def check(self, fed: Fed, data: bytes, sent: Sent) -> list[Answer]:
        """Send one input, wait until all is done, and check what no input may change."""
        self.own.forgive()
        await fed.feed(data, sent.cuts)
        if sent.waits:
            await fed.answered()
        await fed.lost()
        self.own.holds_nothing()
        self.own.has_logged_little()
        answers = fed.answers()
        assert {answer.status for answer in answers} <= STATUSES
        return answers


STATUSES = {200, 204, 207, 400, 404, 405, 411, 413, 429, 431, 470}


@pytest.fixture
def fuzzing(tmp_path: Path, long: bool) -> Iterator[Fuzzing]:
    """A bridge with an admin and a user."""
    loop = asyncio.new_event_loop()
    own = loop.run_until_complete(InProcess.made(tmp_path, paired=True))
    with own.recorded():
        yield Fuzzing(loop, own, long)
    loop.close()


@pytest.fixture
def alone(fuzzing: Fuzzing) -> Fuzzing:
    """An unpaired bridge."""
    fuzzing.own.restore({name: {} for name in fuzzing.own.pairings})
    return fuzzing


def is_nothing(answers: list[Answer], fed: Fed) -> None:
    """Check that the responses suit an unauthenticated connection, which remains one."""
    for answer in answers:
        assert (answer.status == 200) <= (answer.kind == b"application/pairing+tlv8")
        assert answer.status not in {204, 207}
        assert b"services" not in answer.body
    assert not fed.connection.handler.is_encrypted


@pytest.mark.parametrize("drawn", [raw, requests, pairing], ids=["bytes", "requests", "pairing"])
def test_what_a_stranger_sends_gets_nothing(fuzzing: Fuzzing, drawn: st.SearchStrategy[Request]) -> None:
    own, pairings = fuzzing.own, fuzzing.own.pairings

    async def send(data: bytes, sent: Sent) -> None:
        fed = own.connect()
        is_nothing(await fuzzing.check(fed, data, sent), fed)
        assert own.pairings == pairings

    fuzzing.run(EXAMPLES, sending(drawn), send)
    own.has_written_its_state()


def paths_of(own: InProcess) -> list[tuple[int, int]]:
    """AIDs and IIDs of the bridge, those of On first and more often."""
    switches = list(own.bridge._tiles.values())[:4]
    switching = [(switch.aid, switch.iid_manager.get_iid(switch.on)) for switch in switches]
    others = [(1, iid) for iid in range(1, 10)] + [(switches[0].aid, iid) for iid in range(10)]
    return switching * 5 + others


async def send_as_admin(fuzzing: Fuzzing, data: bytes, sent: Sent) -> None:
    fed, before = fuzzing.own.connect(ADMIN), fuzzing.own.pairings
    for answer in await fuzzing.check(fed, data, sent):
        assert answer.kind != b"application/hap+json" or json.loads(answer.body)
    for lost in before["paired_clients"].keys() - fuzzing.own.pairings["paired_clients"].keys():
        assert is_removal(data, lost) or is_removal(data, ADMIN)
    if fuzzing.own.pairings != before:
        fuzzing.own.has_written_its_state()


def test_what_a_controller_sends_gets_an_answer_and_changes_what_it_says(fuzzing: Fuzzing) -> None:
    own, pairings = fuzzing.own, fuzzing.own.pairings

    async def send(data: bytes, sent: Sent) -> None:
        own.restore(pairings)
        await send_as_admin(fuzzing, data, sent)

    fuzzing.run(EXAMPLES, sending(tapping(paths_of(own)) | requests, most=4), send)


def addition(identity: bytes) -> Request:
    some = (
        (STATE, b"\1"),
        (METHOD, b"\3"),
        (USERNAME, identity),
        (PUBLIC_KEY, b"k" * 32),
        (PERMISSIONS, b"\0"),
    )
    return Request(b"POST", b"/pairings", tlv(*some))


def writing(body: object) -> Request:
    return Request(b"PUT", b"/characteristics", json.dumps(body).encode())


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize(
    "name",
    ["subscription", "timed write by no number", "identity with a line break"],
)
def test_what_was_found_once_is_not_found_again(fuzzing: Fuzzing, name: str, waits: bool) -> None:
    aid, iid = paths_of(fuzzing.own)[0]
    prepared = Request(b"PUT", b"/prepare", b'{"ttl":5000,"pid":5}')
    found: dict[str, tuple[Request, ...]] = {
        "subscription": (writing({"characteristics": [{"aid": aid, "iid": iid, "ev": True}]}),),
        "timed write by no number": (prepared, writing({"characteristics": [], "pid": []})),
        "identity with a line break": (addition(b"\n" + b"9" * 31),),
    }
    sent = Sent(found[name], (), (), waits)
    [data] = sent.inputs()
    fuzzing.loop.run_until_complete(send_as_admin(fuzzing, data, sent))


def test_what_a_user_sends_changes_no_pairing(fuzzing: Fuzzing) -> None:
    own, pairings = fuzzing.own, fuzzing.own.pairings

    async def send(data: bytes, sent: Sent) -> None:
        await fuzzing.check(own.connect(USER), data, sent)
        assert own.pairings == pairings

    managing = managements.map(lambda body: Request(b"POST", b"/pairings", body))
    fuzzing.run(EXAMPLES // 4, sending(managing), send)
    own.has_written_its_state()


class CheapVerifier:
    """The bridge's side of SRP without its mathematics."""

    Kb = SRP_KEY

    def __init__(self, code: str, _: object) -> None:
        self.p = code.encode()
        self.is_answered = False

    def get_challenge(self) -> tuple[bytes, int]:
        return b"s" * 16, 1 << 3000

    def set_A(self, public_key: bytes) -> None:  # noqa: N802 -- the name that it has there
        if not public_key.strip(b"\0"):
            raise pairing_rules.PairingRefused(pairing_rules.ERROR_AUTHENTICATION, "unsafe public key")

    def verify(self, proof: bytes) -> bytes | None:
        return b"h" * 64 if proof == RIGHT_PROOF else None


def test_who_does_not_know_the_setup_code_is_not_paired(
    alone: Fuzzing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_setup, "Verifier", CheapVerifier)
    own, pairings = alone.own, alone.own.pairings
    paired: list[bytes] = []

    async def send(data: bytes, sent: Sent) -> None:
        own.restore(pairings)
        fed = own.connect()
        # A device that does not wait for responses is not paired, since the steps are not all taken at once.
        is_nothing(await alone.check(fed, data, replace(sent, waits=True)), fed)
        if own.pairings != pairings:
            paired.append(data)
            assert RIGHT_PROOF in data
            own.has_written_its_state()

    alone.run(EXAMPLES // 4, setups, send)
    assert paired  # or it was never near


def test_a_stranger_that_begins_to_pair_gets_nothing(alone: Fuzzing) -> None:
    own, pairings = alone.own, alone.own.pairings

    async def send(data: bytes, sent: Sent) -> None:
        fed = own.connect()
        is_nothing(await alone.check(fed, data, sent), fed)
        assert own.pairings == pairings

    alone.run(1, setups, send)


def test_only_a_controller_that_proves_who_it_is_is_trusted(fuzzing: Fuzzing) -> None:
    own = fuzzing.own
    trusted: list[bytes] = []
    public = OURS.public_key().public_bytes_raw()

    async def send(data: bytes, sent: Sent) -> None:
        fed = own.connect()
        await fed.feed(Request(b"POST", b"/pair-verify", tlv((STATE, b"\1"), (PUBLIC_KEY, public))).encode())
        [begun] = fed.answers()
        theirs = begun.tlv[PUBLIC_KEY]
        right = ADMIN_KEY.sign(public + OWN_IDS[0] + theirs)
        inside = data.replace(TO_BE_SIGNED, right)
        proof = Request(b"POST", b"/pair-verify", seal_proof(theirs, inside))
        answers = await fuzzing.check(fed, proof.encode(), sent)
        if fed.connection.handler.is_encrypted:
            trusted.append(data)
            assert OWN_IDS[0] in inside
            assert right in inside
            assert fed.connection.handler.client_uuid == ADMIN
        else:
            is_nothing(answers, fed)

    proofs = inner(OWN_IDS[0], b"", TO_BE_SIGNED).map(lambda body: Bytes(b"", b"", body))
    fuzzing.run(EXAMPLES // 4, sending(proofs, most=1), send)
    assert trusted  # or it was never near


def seal_proof(theirs: bytes, inside: bytes) -> bytes:
    """Return the second message of a pair-verify."""
    shared = OURS.exchange(X25519PublicKey.from_public_bytes(theirs))
    key = hap_hkdf(shared, HAPServerHandler.PVERIFY_1_SALT, HAPServerHandler.PVERIFY_1_INFO)
    sealed = ChaCha20Poly1305(key).encrypt(HAPServerHandler.PVERIFY_2_NONCE, inside, b"")
    return tlv((STATE, b"\3"), (DATA, sealed))
