"""Locks and legal holds of a directory's objects: a note for each, which our own code obeys.

    fengni-lock/1
    until 2026-12-26T00:00:00Z
    hold off

Does: keeps what S3 keeps with an object, in the same two parts. Refuses to shorten a lock. Whoever
may write the directory may write the notes too: they keep this service from an error, not an
intruder from the bytes, and the assurance level says so.
"""

import contextlib
import os
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from storage.durable import Tree, disk_errors, open_file
from storage.errors import IntegrityAlarm, Retained
from storage.objects.locks import in_seconds

_FOLDER = "locks"
_HEAD = "fengni-lock/1"
_NOTE = re.compile(rf"{_HEAD}\nuntil (\S+)\nhold (on|off)\n")
_NOTE_BYTES = 256
_NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What is noted of an object.

    Attributes:
        until: until when it is locked, UTC and whole seconds; None where it is not.
        on_hold: whether a legal hold is on it.
    """

    until: datetime | None = None
    on_hold: bool = False

    def encode(self) -> bytes:
        """The note's file."""
        until = _NEVER if self.until is None else self.until.strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"{_HEAD}\nuntil {until}\nhold {'on' if self.on_hold else 'off'}\n".encode()


class LocalLocks:
    """The notes of one directory's objects; names were checked before they come here."""

    def __init__(self, tree: Tree) -> None:
        """Keep them in a folder of the same tree."""
        self._tree = tree

    def read(self, name: str) -> Note:
        """What is noted; an empty note where nothing is.

        Raises:
            IntegrityAlarm: the note is damaged, so nothing may be removed.
        """
        with disk_errors("reading a lock"):
            try:
                with self._tree.folder(_FOLDER) as folder:
                    fd = open_file(name, folder)
            except FileNotFoundError:
                return Note()
            with contextlib.closing(os.fdopen(fd, "rb")) as file:
                text = file.read(_NOTE_BYTES).decode("ascii", "replace")
        found = _NOTE.fullmatch(text)
        try:
            if found is None:
                raise ValueError
            until = None if found[1] == _NEVER else datetime.fromisoformat(found[1])
        except ValueError as error:
            raise IntegrityAlarm("the note of an object's lock is damaged") from error
        return Note(until=until and until.astimezone(UTC), on_hold=found[2] == "on")

    def extend(self, name: str, until: datetime) -> None:
        """Lock for longer, durable on return; an earlier date changes nothing."""
        noted, asked = self.read(name), in_seconds(until)
        if noted.until is None or noted.until < asked:
            self._write(name, replace(noted, until=asked))

    def hold(self, name: str, *, on: bool) -> None:
        """Put a hold on, or lift it, durable on return."""
        noted = self.read(name)
        if noted.on_hold is not on:
            self._write(name, replace(noted, on_hold=on))

    def require_free(self, name: str, at: datetime) -> None:
        """Let pass what is neither locked nor held.

        Raises:
            Retained: it is.
        """
        noted = self.read(name)
        if noted.on_hold or (noted.until is not None and noted.until > at):
            raise Retained("the object is locked or on hold")

    def _write(self, name: str, note: Note) -> None:
        with disk_errors("writing a lock"), self._tree.folder(_FOLDER, make=True) as folder:
            self._tree.replace_file(note.encode(), name, folder)
