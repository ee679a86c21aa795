"""What is encrypted on a connection, in frames of up to 1024 bytes (HAP specification, 6.5.2)."""

from pyhap.hap_crypto import HAPCrypto


class Frames(HAPCrypto):
    """Both directions of one connection."""

    MIN_BLOCK_LENGTH = HAPCrypto.MIN_BLOCK_LENGTH - 2
    """HAP-python decrypts only what is longer, and leaves lying a last frame of one byte, or of none."""

    @property
    def has_part_of_a_frame(self) -> bool:
        """Whether the end of a frame has still to come."""
        return bool(self._crypt_in_buffer)
