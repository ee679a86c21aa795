"""Pair-setup: steps in order, on one connection at a time, with a session key that requires the setup code.

HAP-python drops leading zeros where iOS does not, and so rejects one correct setup code in 80. It also
accepts steps in any order, and lets any number of controllers pair at once, with one another's keys.

The arithmetic takes tens of milliseconds, during which the loop is blocked. A thread would not help, because
Python holds its global lock during that time. So a challenge is reused until it has been answered, and
answers are limited.
"""

import asyncio
import hashlib
from typing import Any, Final, Protocol

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from pyhap import tlv
from pyhap.const import HAP_PERMISSIONS
from pyhap.hap_crypto import hap_hkdf
from pyhap.hap_handler import HAP_TLV_TAGS as TAGS
from pyhap.hap_handler import HAPServerHandler
from pyhap.hsrp import Server as SrpServer
from pyhap.params import get_srp_context

from hkswitch.hap.characteristics import TimedWrites
from hkswitch.hap.events import Events
from hkswitch.hap.pairing_rules import (
    ERROR_AUTHENTICATION,
    ERROR_BUSY,
    ERROR_MAX_TRIES,
    ERROR_UNKNOWN,
    PairingRefused,
    Step,
)
from hkswitch.hap.sessions import Session, controller_of
from hkswitch.hap.state_file import StateUnwritable
from hkswitch.protocol.control import MOST_FAILED_ATTEMPTS

GROUP_BITS: Final = 3072
SALT_BYTES: Final = 16

NOT_COUNTED: Final = "attempts cannot be counted while the bridge's state cannot be written"


class RequestConnection(Protocol):
    """The part of a connection that its request handler uses."""

    session: Session
    events: Events
    timed_writes: TimedWrites
    accessory_driver: Any

    def log_warning(self, what: str) -> None:
        """Log what the peer did."""

    def extend_deadline_to_pair(self) -> None:
        """Extend the deadline, because a user may have to type the code."""


class Verifier(SrpServer):
    """The bridge's side of SRP (RFC 5054), with all numbers at full length."""

    def __init__(self, setup_code: str, last: "Verifier | None" = None) -> None:
        """Draw random numbers until the public key has no leading zero that HAP-python would drop.

        It keeps the salt of `last` and the value derived from salt and code, which saves half of the work.
        """
        context = get_srp_context(GROUP_BITS, hashlib.sha512, SALT_BYTES)
        kept = {} if last is None else {"s": last.s, "v": last.v}
        super().__init__(context, b"Pair-Setup", setup_code.encode(), **kept)
        self.is_answered = False
        while self.B.bit_length() <= GROUP_BITS - 8:
            super().__init__(context, b"Pair-Setup", setup_code.encode(), s=self.s, v=self.v)

    def set_A(self, bytes_A: bytes) -> None:  # noqa: N802, N803 -- HAP-python's names
        """Compute the session key with leading zeros; raises `PairingRefused` for an unsafe public key."""
        self.A, self.Ab = int.from_bytes(bytes_A), bytes_A
        # TRUST: a device that sends a multiple of N knows the session key (RFC 5054, 2.5.4).
        if len(bytes_A) * 8 > GROUP_BITS or self.A % self.N == 0:
            raise PairingRefused(ERROR_AUTHENTICATION, "unsafe public key")
        self.S = self._derive_premaster_secret()
        self.Sb = self.S.to_bytes(GROUP_BITS // 8)
        self.Kb = hashlib.sha512(self.Sb).digest()
        self.K = int.from_bytes(self.Kb)
        self.M = self._get_M()
        self.HAMK = self._get_HAMK()


class PairSetupRequests(HAPServerHandler):
    """The requests of a connection with which the first controller pairs."""

    def __init__(self, connection: RequestConnection) -> None:
        self._connection = connection
        super().__init__(connection.accessory_driver, connection.session)
        self._pair_setup = connection.accessory_driver.pair_setup
        self._verifier: Any = None

    def handle_pairing(self) -> None:
        """Take one step, in order, unlike HAP-python; raises what `tlv.decode` and missing fields raise."""
        if self.state.paired:
            super().handle_pairing()  # responds with Unavailable
            return
        parts = tlv.decode(self.request_body)
        step = Step.of(parts[TAGS.SEQUENCE_NUM])
        take = {Step.BEGIN: self._begin, Step.PROVE: self._prove, Step.EXCHANGE: self._exchange}
        try:
            if step is not Step.BEGIN and not self._pair_setup.is_next(self._connection.session, step):
                raise PairingRefused(ERROR_UNKNOWN, "pair-setup step out of order")
            take[step](parts)
        except PairingRefused as refused:
            self._send_tlv_pairing_response(self._refused(step, refused))
        except BaseException:
            self._end()
            raise

    def _begin(self, _: dict[bytes, bytes]) -> None:
        if self.accessory_handler.attempts.is_locked:
            raise PairingRefused(ERROR_MAX_TRIES, f"locked after {MOST_FAILED_ATTEMPTS} wrong setup codes")
        if not self._pair_setup.begin(self._connection.session):
            raise PairingRefused(ERROR_BUSY, "another controller is pairing")
        if not self.accessory_handler.writer.can_write():
            raise PairingRefused(ERROR_BUSY, NOT_COUNTED)
        self._connection.extend_deadline_to_pair()
        self._verifier = self._challenge()
        salt, public_key = self._verifier.get_challenge()
        self._tell(Step.BEGIN, TAGS.SALT, salt, TAGS.PUBLIC_KEY, public_key.to_bytes(GROUP_BITS // 8))

    def _challenge(self) -> Verifier:
        """Return a challenge that has never been answered.

        It reuses one that a controller abandoned, at no cost.
        """
        last, code = self._pair_setup.challenge, self.accessory_handler.setup.code
        if last is not None and last.p != code.encode():
            last = None
        if last is None or last.is_answered:
            self._pair_setup.challenge = Verifier(code, last)
        challenge: Verifier = self._pair_setup.challenge
        return challenge

    def _prove(self, parts: dict[bytes, bytes]) -> None:
        verifier, public_key, proof = self._verifier, parts[TAGS.PUBLIC_KEY], parts[TAGS.PASSWORD_PROOF]
        verifier.is_answered = True
        self._send_tlv_pairing_response(b"")  # the task returns the body
        self.response.task = asyncio.ensure_future(self._proved(verifier, public_key, proof))

    async def _proved(self, verifier: Verifier, public_key: bytes, proof: bytes) -> bytes:
        """Compare proofs, but let other connections go first: many steps may have arrived at once."""
        await asyncio.sleep(0)
        try:
            if self._pair_setup.holder is not self._connection.session:
                raise PairingRefused(
                    ERROR_UNKNOWN, "disconnected"
                )  # the device sees no outcome, so this is not an attempt
            ours = self._own_proof(verifier, public_key, proof)
            self._pair_setup.proved()
            return _answer(Step.PROVE, TAGS.PASSWORD_PROOF, ours)
        except PairingRefused as refused:
            return self._refused(Step.PROVE, refused)
        except BaseException:
            self._end()
            raise

    def _own_proof(self, verifier: Verifier, public_key: bytes, proof: bytes) -> bytes:
        """Return the bridge's proof if the controller's is correct; otherwise the attempt stays counted."""
        attempts = self.accessory_handler.attempts
        try:
            # TRUST: count before comparing. Otherwise guesses would be free on a full disk, and a correct one
            # would be recognisable.
            failed = attempts.count()
        except StateUnwritable:
            self.accessory_handler.writer.log_trouble()
            raise PairingRefused(ERROR_BUSY, NOT_COUNTED) from None
        try:
            verifier.set_A(public_key)
            if (ours := verifier.verify(proof)) is None:
                raise PairingRefused(ERROR_AUTHENTICATION, "wrong setup code")
        except PairingRefused as refused:
            raise PairingRefused(
                refused.error, f"{refused} (attempt {failed} of {MOST_FAILED_ATTEMPTS} in total)"
            ) from None
        attempts.take_back()
        return bytes(ours)

    def _exchange(self, parts: dict[bytes, bytes]) -> None:
        """Exchange long-term keys (HAP specification, 5.6.5 and 5.6.6).

        Writes the pairing before it responds.
        """
        session_key = self._verifier.Kb
        cipher = ChaCha20Poly1305(hap_hkdf(session_key, self.PAIRING_3_SALT, self.PAIRING_3_INFO))
        identity, public_key = self._proved_identity(session_key, cipher, parts[TAGS.ENCRYPTED_DATA])
        self.accessory_handler.pair(identity, public_key, HAP_PERMISSIONS.ADMIN)
        self._end()
        sealed = cipher.encrypt(self.PAIRING_5_NONCE, self._own_identity(session_key), b"")
        self._tell(Step.EXCHANGE, TAGS.ENCRYPTED_DATA, sealed)

    def _proved_identity(
        self, session_key: bytes, cipher: ChaCha20Poly1305, sealed: bytes
    ) -> tuple[bytes, bytes]:
        """Return the controller's ID and public key after verifying its signature."""
        try:
            parts = tlv.decode(cipher.decrypt(self.PAIRING_3_NONCE, sealed, b""))
            identity, public_key = parts[TAGS.USERNAME], parts[TAGS.PUBLIC_KEY]
            signed = hap_hkdf(session_key, self.PAIRING_4_SALT, self.PAIRING_4_INFO) + identity + public_key
            Ed25519PublicKey.from_public_bytes(public_key).verify(parts[TAGS.PROOF], signed)
            controller_of(identity)
        except (InvalidTag, InvalidSignature, ValueError, LookupError) as error:
            raise PairingRefused(ERROR_AUTHENTICATION, "invalid signature") from error
        return identity, public_key

    def _own_identity(self, session_key: bytes) -> bytes:
        """Return the bridge's ID and public key, signed."""
        identity, public_key = self.state.mac.encode(), self.state.public_key.public_bytes_raw()
        signed = hap_hkdf(session_key, self.PAIRING_5_SALT, self.PAIRING_5_INFO) + identity + public_key
        proof = self.state.private_key.sign(signed)
        return bytes(tlv.encode(TAGS.USERNAME, identity, TAGS.PUBLIC_KEY, public_key, TAGS.PROOF, proof))

    def _end(self) -> None:
        self._verifier = None
        self._pair_setup.end(self._connection.session)

    def _refused(self, step: Step, refused: PairingRefused) -> bytes:
        """End pair-setup, log the reason, and return the response."""
        self._end()
        self._connection.log_warning(f"pairing refused: {refused}")
        return _answer(step, TAGS.ERROR_CODE, refused.error)

    def _tell(self, step: Step, *parts: bytes) -> None:
        self._send_tlv_pairing_response(_answer(step, *parts))


def _answer(step: Step, *parts: bytes) -> bytes:
    """Return the response to a step: its state is the next number."""
    return bytes(tlv.encode(TAGS.SEQUENCE_NUM, bytes([step.value[0] + 1]), *parts))
