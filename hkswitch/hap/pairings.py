"""Pair-verify, and adding and removing pairings as an admin (HAP specification, 5.7 and 5.10 to 5.12).

HAP-python accepts only UUIDs as controller IDs, and has no response for a full pairing list.
"""

from typing import Any

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from pyhap import tlv
from pyhap.hap_handler import HAP_TLV_TAGS as TAGS

from hkswitch.hap.pair_setup import PairSetupRequests
from hkswitch.hap.pairing_rules import ERROR_AUTHENTICATION, PairingRefused
from hkswitch.hap.sessions import controller_of


class PairingRequests(PairSetupRequests):
    """The requests of a connection about existing pairings."""

    def _pair_verify_two(self, tlv_objects: dict[bytes, bytes]) -> None:
        """Authenticate the controller by its signature.

        HAP-python logs an error for each attempt by any device.
        """
        context: Any = self.enc_context
        self.enc_context: Any = None  # for a single use
        if context is None:
            raise ValueError("pair-verify M3 without M1")
        try:
            identity = self._proved_controller(context, tlv_objects)
        except PairingRefused as refused:
            self._connection.log_warning(f"pair-verify refused: {refused}")
            error = tlv.encode(TAGS.SEQUENCE_NUM, b"\x04", TAGS.ERROR_CODE, refused.error)
            self._send_tlv_pairing_response(error)
            return
        self._send_tlv_pairing_response(tlv.encode(TAGS.SEQUENCE_NUM, b"\x04"))
        self.response.shared_key = context["shared_key"]
        self.is_encrypted = True
        self._connection.session.controller = controller_of(identity)
        if self.client_uuid not in self.state.uuid_to_bytes:  # the state file is from an early version
            self.state.uuid_to_bytes[self.client_uuid] = identity
            self.accessory_handler.async_persist()

    def _proved_controller(self, context: dict[str, Any], parts: dict[bytes, bytes]) -> bytes:
        """Return the ID of the controller, which has proved that it is paired."""
        cipher = ChaCha20Poly1305(context["pre_session_key"])
        try:
            proved = tlv.decode(cipher.decrypt(self.PVERIFY_2_NONCE, parts[TAGS.ENCRYPTED_DATA], b""))
            identity = proved[TAGS.USERNAME]
            public_key = self.state.paired_clients[controller_of(identity)]
            signed = context["client_public"] + identity + context["public_key"].public_bytes_raw()
            Ed25519PublicKey.from_public_bytes(public_key).verify(proved[TAGS.PROOF], signed)
        except (InvalidTag, InvalidSignature, ValueError, LookupError) as error:
            raise PairingRefused(ERROR_AUTHENTICATION, "not paired with this bridge") from error
        return bytes(identity)

    def handle_pairings(self) -> None:
        """Handle an admin's request, if its state is M1; HAP-python ignores the state."""
        if tlv.decode(self.request_body)[TAGS.SEQUENCE_NUM] != b"\x01":
            raise ValueError("pairings request with a state other than M1")
        super().handle_pairings()

    def _handle_add_pairing(self, tlv_objects: dict[bytes, bytes]) -> None:
        """Add a pairing or change its permissions; HAP-python has only one error code for all failures."""
        identity, key = tlv_objects[TAGS.USERNAME], tlv_objects[TAGS.PUBLIC_KEY]
        try:
            self.accessory_handler.pair(identity, key, tlv_objects[TAGS.PERMISSIONS])
        except PairingRefused as refused:
            self._connection.log_warning(f"pairing not added: {refused}")
            self._done(TAGS.ERROR_CODE, refused.error)
        else:
            self._done()

    def _handle_remove_pairing(self, tlv_objects: dict[bytes, bytes]) -> None:
        """Remove a pairing; succeeds if there is none. HAP-python requires UUIDs."""
        controller = controller_of(tlv_objects[TAGS.USERNAME])
        if controller in self.state.paired_clients:
            self.accessory_handler.unpair(controller)
        self._done()

    def _done(self, *parts: bytes) -> None:
        self._send_tlv_pairing_response(tlv.encode(TAGS.SEQUENCE_NUM, b"\x02", *parts))
