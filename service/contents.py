"""Stored content, opened: as it lies in the store, or through the key that it was sealed with.

Does: reads what a `stored` statement says of where content lies, and opens it. Refuses to hash: who
relies on the bytes compares while reading. Content whose key was destroyed is no fault of a store.
"""

from dataclasses import dataclass
from typing import BinaryIO, cast

from evidence.canonical import JSONObject
from evidence.statement import Statement
from storage.errors import IntegrityAlarm, NotFound
from storage.keys import KeyStore
from storage.objects import ObjectStore
from storage.sealing import SealedStream

FACTS = "/facts"
"""Added to a capture's id: the name of the key of what an inspection read in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Where content lies.

    Attributes:
        sha256: of the content, 64 hex digits.
        size_bytes: of the content.
        name: of the object.
        version: of the object, where the store keeps versions.
        key: name of the key that it is sealed with; empty where it is not sealed.
    """

    sha256: str
    size_bytes: int
    name: str
    version: str | None
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vault:
    """The object store with the keys to what is sealed in it.

    Attributes:
        objects: the store.
        keys: of sealed contents.
    """

    objects: ObjectStore
    keys: KeyStore

    def open(self, origin: str, kept: Kept) -> BinaryIO:
        """The content's bytes as a seekable stream, from the start; the caller closes it.

        Args:
            origin: of the log that says where it lies.
            kept: what it says.

        Raises:
            KeyDestroyed: it was disposed of.
            IntegrityAlarm: the object, or its key, is gone and nobody says that it was destroyed.
            Unavailable: a store does not answer.
        """
        try:
            key = self.keys.find_content(origin, kept.key) if kept.key else b""
            stored = self.objects.open(kept.name, kept.version)
        except NotFound as error:
            raise IntegrityAlarm("an object that was stated to be stored is gone") from error
        if not kept.key:
            return stored
        return cast("BinaryIO", SealedStream(stored, key, kept.sha256, kept.size_bytes))


def kept_by(stored: Statement) -> Kept:
    """Where a `stored` statement says that content lies."""
    content = cast("JSONObject", stored.body["content"])
    lies = cast("JSONObject", stored.body["object"])
    capture = "" if stored.about is None else stored.about.statement
    return Kept(
        sha256=str(content["sha256"]),
        size_bytes=cast("int", content["size_bytes"]),
        name=str(lies["name"]),
        version=cast("str | None", lies.get("version")),
        key=capture if "sealed" in lies else "",
    )


def output_of(inspected: Statement) -> Kept | None:
    """Where an `inspected` statement says that its output lies, if it has one."""
    output = inspected.body.get("output")
    if not isinstance(output, dict):
        return None
    lies = inspected.body.get("output_object")
    capture = "" if inspected.about is None else inspected.about.statement
    sealed = isinstance(lies, dict)
    return Kept(
        sha256=str(output["sha256"]),
        size_bytes=cast("int", output["size_bytes"]),
        name=str(lies["name"]) if isinstance(lies, dict) else str(output["sha256"]),
        version=cast("str | None", lies.get("version")) if isinstance(lies, dict) else None,
        key=capture + FACTS if sealed else "",
    )
