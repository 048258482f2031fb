"""Key-encryption keys in a hardware module that speaks PKCS#11; they never leave it.

Does: AES-256-GCM inside the module, with keys that are made there, sensitive and not extractable,
under labels `fengni-kek-000001` and so on; the highest number is the present one, so every node
that speaks to the module agrees. Refuses to log in without a PIN, and gives no message of the
module away, only that it refused.

    wrapped = nonce (12) ‖ AES-256-GCM( key (32), associated data: place )          60 bytes

Tried with SoftHSM 2.6. A cloud's key service that has a PKCS#11 library is reached the same way.
"""

import importlib
import re
import secrets
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from storage.errors import IntegrityAlarm, NotFound, Unavailable
from storage.keys.wrapping import NONCE_BYTES

_LABEL = re.compile(r"fengni-kek-(\d{6})")
_TAG_BITS = 128
_KEY_BITS = 256


class TokenWrapper:
    """`KeyWrapper` over one token. Threads may share it; the module does one thing at a time."""

    def __init__(self, module: Path, token: str, pin: str, *, create: bool = False) -> None:
        """Log in.

        Args:
            module: the module's PKCS#11 library.
            token: the token's label.
            pin: of its user.
            create: make the first key-encryption key where there is none.

        Raises:
            NotFound: the token holds no key-encryption key, and none is to be made.
            Unavailable: the library, the token or the PIN is wrong, or nobody answers.
        """
        self._turn = threading.Lock()
        self._pkcs11 = _library()
        with self._asked("opening it"):
            found = self._pkcs11.lib(str(module)).get_token(token_label=token)
            self._session = found.open(user_pin=pin, rw=True)
        self._keys = self._listed()
        if not self._keys and create:
            self.renew()
        if not self._keys:
            self.close()
            raise NotFound("the hardware module holds no key-encryption key")

    @property
    def current(self) -> str:
        """See `KeyWrapper.current`."""
        return max(self._keys)

    def wrap(self, kek: str, key: bytes, place: bytes) -> bytes:
        """See `KeyWrapper.wrap`."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        found = self._key(kek)
        with self._asked("wrapping a key"):
            return nonce + bytes(found.encrypt(key, **self._gcm(nonce, place)))

    def unwrap(self, kek: str, wrapped: bytes, place: bytes) -> bytes:
        """See `KeyWrapper.unwrap`."""
        nonce, sealed = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
        found = self._key(kek)
        with self._asked("unwrapping a key", refused=IntegrityAlarm("a wrapped key does not open")):
            return bytes(found.decrypt(sealed, **self._gcm(nonce, place)))

    def renew(self) -> str:
        """See `KeyWrapper.renew`."""
        number = max((int(label[-6:]) for label in self._listed()), default=0) + 1
        label = f"fengni-kek-{number:06}"
        attribute = self._pkcs11.Attribute
        with self._asked("making a key-encryption key"):
            self._session.generate_key(
                self._pkcs11.KeyType.AES,
                _KEY_BITS,
                label=label,
                store=True,
                template={attribute.SENSITIVE: True, attribute.EXTRACTABLE: False},
            )
        self._keys = self._listed()
        return label

    def forget(self, kek: str) -> None:
        """See `KeyWrapper.forget`."""
        found = self._key(kek)
        if kek == self.current:
            raise ValueError("the present key-encryption key cannot be forgotten")
        with self._asked("destroying a key-encryption key"):
            found.destroy()
        self._keys = self._listed()

    def close(self) -> None:
        """Log out."""
        with self._asked("leaving the hardware module"):
            self._session.close()

    def _gcm(self, nonce: bytes, place: bytes) -> dict[str, Any]:
        parameters = self._pkcs11.GCMParams(nonce=nonce, aad=place, tag_bits=_TAG_BITS)
        return {"mechanism": self._pkcs11.Mechanism.AES_GCM, "mechanism_param": parameters}

    def _key(self, kek: str) -> Any:  # noqa: ANN401  a key of the library
        if kek not in self._keys:
            self._keys = self._listed()  # another node may have made it
        if kek not in self._keys:
            raise NotFound("the key-encryption key that a key names is not there")
        return self._keys[kek]

    def _listed(self) -> dict[str, Any]:
        wanted = {self._pkcs11.Attribute.CLASS: self._pkcs11.ObjectClass.SECRET_KEY}
        with self._asked("listing key-encryption keys"):
            found = {str(one.label): one for one in self._session.get_objects(wanted)}
        return {label: one for label, one in found.items() if _LABEL.fullmatch(label)}

    @contextmanager
    def _asked(self, doing: str, refused: IntegrityAlarm | None = None) -> Generator[None]:
        """One question at a time; the module's own errors get a name of ours.

        A module says the same of a wrong tag as of a fault of its own. If it still makes random
        numbers, it is well, and the bytes are wrong.
        """
        with self._turn:
            try:
                yield
            except self._pkcs11.PKCS11Error as error:
                if refused is not None and self._is_well():
                    raise refused from error
                raise Unavailable(f"the hardware module refused: {doing}") from error

    def _is_well(self) -> bool:
        try:
            return bool(self._session.generate_random(64))
        except self._pkcs11.PKCS11Error:
            return False


def _library() -> ModuleType:
    try:
        return importlib.import_module("pkcs11")  # the extra `hsm`: few deployments have a module
    except ImportError as error:
        raise Unavailable("PKCS#11 needs the extra `hsm`: pip install 'fengni[hsm]'") from error
