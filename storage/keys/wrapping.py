"""What wraps keys: a key-encryption key, named by its id, in a file or where it cannot be read.

Does: AES-256-GCM with a random nonce of 12 bytes, bound to the place of the wrapped key:

    wrapped = nonce (12) ‖ AES-256-GCM( key (32), associated data: place )          60 bytes

Refuses a file that others may read, and to wrap with a key that it was not told to make. One
key-encryption key must not wrap more than 2³² keys (random nonces, NIST SP 800-38D section 8.3);
`fengni keys rotate` begins with a new one.

A file of key-encryption keys, mode 0600, the present one first:

    fengni-kek/1
    3f9c…64 hex digits
    77a0…64 hex digits, of former keys that something may still be wrapped with
"""

import hashlib
import os
import re
import secrets
import stat
import threading
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.durable import disk_errors
from storage.errors import AlreadyExists, IntegrityAlarm, NotFound, Unavailable

KEY_BYTES = 32
NONCE_BYTES = 12
_HEAD = "fengni-kek/1"
_LINE = re.compile(r"[0-9a-f]{64}")
_ID_DIGITS = 16


class KeyWrapper(Protocol):
    """Wraps and unwraps keys of 32 bytes; two of them exist: `FileWrapper`, `TokenWrapper`."""

    @property
    def current(self) -> str:
        """Id of the key-encryption key that new keys are wrapped with, 1 to 64 characters."""
        ...

    def wrap(self, kek: str, key: bytes, place: bytes) -> bytes:
        """Wrap a key, bound to its place.

        Raises:
            NotFound: there is no such key-encryption key.
            Unavailable: it does not answer.
        """
        ...

    def unwrap(self, kek: str, wrapped: bytes, place: bytes) -> bytes:
        """The key that was wrapped.

        Raises:
            NotFound: there is no such key-encryption key (any more).
            IntegrityAlarm: other bytes, or another place.
            Unavailable: it does not answer.
        """
        ...

    def renew(self) -> str:
        """Make a new key-encryption key the present one; the former stay. Returns its id."""
        ...

    def forget(self, kek: str) -> None:
        """Destroy a former key-encryption key: what it wraps is lost, in every backup too.

        Raises:
            ValueError: it is the present one.
            NotFound: there is none.
        """
        ...


class FileWrapper:
    """Key-encryption keys in a file of its owner. Threads and processes may share it."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            NotFound: it is not there; making a new one would hide that the old one was lost.
            Unavailable: others may read it, or it is no such file.
        """
        self._path = path
        self._turn = threading.Lock()
        self._keys = _read(path)

    @classmethod
    def create(cls, path: Path) -> "FileWrapper":
        """Make a file with one fresh key.

        Raises:
            AlreadyExists: it is there.
        """
        if path.exists():
            raise AlreadyExists("there is a file of key-encryption keys already")
        _write(path, [secrets.token_bytes(KEY_BYTES)])
        return cls(path)

    @property
    def current(self) -> str:
        """See `KeyWrapper.current`."""
        return next(iter(self._keys))

    def wrap(self, kek: str, key: bytes, place: bytes) -> bytes:
        """See `KeyWrapper.wrap`."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + AESGCM(self._key(kek)).encrypt(nonce, key, place)

    def unwrap(self, kek: str, wrapped: bytes, place: bytes) -> bytes:
        """See `KeyWrapper.unwrap`."""
        nonce, sealed = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
        try:
            return AESGCM(self._key(kek)).decrypt(nonce, sealed, place)
        except (InvalidTag, ValueError) as error:
            raise IntegrityAlarm("a wrapped key does not open") from error

    def renew(self) -> str:
        """See `KeyWrapper.renew`."""
        with self._turn:
            keys = [secrets.token_bytes(KEY_BYTES), *_read(self._path).values()]
            _write(self._path, keys)
            self._keys = _read(self._path)
        return self.current

    def forget(self, kek: str) -> None:
        """See `KeyWrapper.forget`."""
        with self._turn:
            keys = _read(self._path)
            if kek not in keys:
                raise NotFound("there is no such key-encryption key")
            if kek == next(iter(keys)):
                raise ValueError("the present key-encryption key cannot be forgotten")
            del keys[kek]
            _write(self._path, list(keys.values()))
            self._keys = keys

    def _key(self, kek: str) -> bytes:
        if kek not in self._keys:  # another process may have begun with a new one
            with self._turn:
                self._keys = _read(self._path)
        if kek not in self._keys:
            raise NotFound("the key-encryption key that a key names is not there")
        return self._keys[kek]


def id_of(key: bytes) -> str:
    """The name of a key-encryption key of a file; tells nothing of it."""
    return hashlib.sha256(b"fengni-kek/v1 " + key).hexdigest()[:_ID_DIGITS]


def _read(path: Path) -> dict[str, bytes]:
    with disk_errors("reading the key-encryption keys"):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotFound("the file of key-encryption keys is not there") from error
        with os.fdopen(fd, encoding="ascii", errors="replace") as file:
            if stat.S_IMODE(os.fstat(fd).st_mode) & 0o077:
                raise Unavailable("others may read the key-encryption keys: chmod 600")
            head, *lines = file.read().splitlines() or [""]
    if head != _HEAD or not lines or not all(_LINE.fullmatch(line) for line in lines):
        raise Unavailable("the file of key-encryption keys is damaged or of a later format")
    keys = [bytes.fromhex(line) for line in lines]
    return {id_of(key): key for key in keys}


def _write(path: Path, keys: list[bytes]) -> None:
    """Put the whole file in its place, durable, in one step."""
    text = "\n".join([_HEAD, *(key.hex() for key in keys), ""])
    waiting = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with disk_errors("writing the key-encryption keys"):
        fd = os.open(waiting, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)
        os.rename(waiting, path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
