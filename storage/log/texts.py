"""Encrypted texts beside the log, each under a key of its own that can be destroyed alone.

A leaf holds no text, so the text lies in a bundle at the same place: `texts/x001/234` holds the
256 texts under `tile/entries/x001/234`, in the same framing. One item is

    nonce (12 bytes) ‖ AES-256-GCM of ( received_at_ms (8) ‖ committed_size (8) ‖ statement )

with `fengni-text/v1 <origin> <index>` as associated data. The nonce is the beginning of the
statement's id: the same text gives the same bytes in every attempt to publish it, and another
text under the same key could not meet the same nonce.

Does: seals and opens items. Refuses to keep keys: they lie in a store of their own
(`storage.keys`), so that a copy of the database or of the tiles does not carry them along.

Source: docs/adr/0005-text-keys.md.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from evidence.tlog.tiles import TileName
from storage.errors import IntegrityAlarm
from storage.keys.stores import FileKeys

_NONCE_BYTES = 12
_NUMBER_BYTES = 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)

TextKeys = FileKeys
"""The former name of the key store, from when it held nothing but keys of texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedText:
    """What a text item holds.

    Attributes:
        statement: canonical bytes.
        received_at: when the server received it, UTC, whole milliseconds.
        committed_size: size of the checkpoint that was signed with it.
    """

    statement: bytes
    received_at: datetime
    committed_size: int


def texts_name(index: int) -> str:
    """Name of the full text bundle with this number, such as `texts/x001/234`."""
    return "texts/" + TileName(level=None, index=index).path().removeprefix("tile/entries/")


def seal_text(key: bytes, origin: str, index: int, text: LoggedText) -> bytes:
    """Encrypt one text as an item of a bundle; the same input gives the same bytes.

    Args:
        key: 32 bytes, of this index alone.
        origin: of the log.
        index: zero-based index of the leaf.
        text: at most 16 KiB of statement.
    """
    nonce = sha256(text.statement).digest()[:_NONCE_BYTES]
    received_ms = (text.received_at - _EPOCH) // _MS
    numbers = received_ms.to_bytes(_NUMBER_BYTES) + text.committed_size.to_bytes(_NUMBER_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, numbers + text.statement, _place(origin, index))


def open_text(key: bytes, origin: str, index: int, item: bytes) -> LoggedText:
    """Decrypt one item.

    Raises:
        IntegrityAlarm: other bytes, another key, another place, or a nonce that is not the
            statement's.
    """
    nonce, sealed = item[:_NONCE_BYTES], item[_NONCE_BYTES:]
    try:
        plain = AESGCM(key).decrypt(nonce, sealed, _place(origin, index))
    except (InvalidTag, ValueError) as error:
        raise IntegrityAlarm("an encrypted text does not open with its key") from error
    statement = plain[2 * _NUMBER_BYTES :]
    if sha256(statement).digest()[:_NONCE_BYTES] != nonce:
        raise IntegrityAlarm("an encrypted text is not the one that its nonce names")
    return LoggedText(
        statement=statement,
        received_at=_EPOCH + int.from_bytes(plain[:_NUMBER_BYTES]) * _MS,
        committed_size=int.from_bytes(plain[_NUMBER_BYTES : 2 * _NUMBER_BYTES]),
    )


def _place(origin: str, index: int) -> bytes:
    return f"fengni-text/v1 {origin} {index}".encode()
