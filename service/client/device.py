"""A device and the statements that it makes.

Does: measures a file, and makes the signed `capture` and `session` statements that say so.
Refuses to improve a claim: a file that lies on a disk is an `import` unless the person says
otherwise, and its time is the file's own unless a better one is given.
"""

import mimetypes
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from evidence.canonical import JSONObject, JSONValue, canonicalise
from evidence.digest import Hasher, Measured
from evidence.errors import EvidenceError
from evidence.keys import Signer
from evidence.kinds.members import MEDIA_TYPE, NAMED_CONTENT
from evidence.schema import format_time
from evidence.statement import About, SignedStatement, make_statement, sign_statement
from service.client.failures import Misused
from service.client.journal import Entry

_PIECE_BYTES = 1024 * 1024
_UNKNOWN_TYPE = "application/octet-stream"
_CAMERA_TYPES = {  # what `mimetypes` lacks on Python 3.11
    ".avif": "image/avif",
    ".dng": "image/x-adobe-dng",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".webp": "image/webp",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What the person says about the files of one upload.

    Attributes:
        mode: `attended`, `automated` or `import`.
        task: the task's name, where there is one.
        officer: the officer's pseudonym, where there is one.
        captured_at: UTC; None takes each file's own time.
        utc_offset_min: offset of the device's local time in minutes, where it knows one.
        place: the body's member `place`, where one is claimed.
    """

    mode: str = "import"
    task: str | None = None
    officer: str | None = None
    captured_at: datetime | None = None
    utc_offset_min: int | None = None
    place: Mapping[str, JSONValue] | None = None

    def likeness(self, **more: JSONValue) -> str:
        """All that was chosen, as canonical text: equal texts are the same wish."""
        chosen: JSONObject = {
            "mode": self.mode,
            "task": self.task,
            "officer": self.officer,
            "captured_at": None if self.captured_at is None else format_time(self.captured_at),
            "utc_offset_min": self.utc_offset_min,
            "place": None if self.place is None else dict(self.place),
            **more,
        }
        return canonicalise({k: v for k, v in chosen.items() if v is not None}).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredFile:
    """A file as it was when it was hashed.

    Attributes:
        named: the path as the person named it.
        path: where it lies, absolute.
        content: its digest and length.
        media_type: as its name tells, lowercase.
        modified_at: its own time, UTC.
    """

    named: Path
    path: Path
    content: Measured
    media_type: str
    modified_at: datetime

    def members(self) -> JSONObject:
        """The statement's member `content`; a name that no statement may hold is left out."""
        members: JSONObject = {
            "sha256": self.content.sha256,
            "size_bytes": self.content.size_bytes,
            "media_type": self.media_type,
        }
        named: JSONObject = {**members, "name": self.path.name}
        try:
            NAMED_CONTENT.check(named, "")
            canonicalise(named)
        except EvidenceError:  # control characters, or bytes that are no UTF-8
            return members
        return named


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Who signs, for which deployment, and where time and salt come from."""

    signer: Signer
    audience: str
    organ: str
    clock: Callable[[], datetime]
    fresh_salt: Callable[[], str]

    def capture(
        self, file: MeasuredFile, claim: Claim, *, session: "OpenSession | None" = None
    ) -> Entry:
        """Make and sign the statement that these bytes were captured."""
        body: JSONObject = {
            "content": file.members(),
            "mode": claim.mode,
            "captured_at": format_time(claim.captured_at or file.modified_at),
        }
        chosen: dict[str, JSONValue] = {
            "officer": claim.officer,
            "task": claim.task,
            "utc_offset_min": claim.utc_offset_min,
            "place": None if claim.place is None else dict(claim.place),
            "number": None if session is None else session.next_number,
        }
        body |= {name: value for name, value in chosen.items() if value is not None}
        signed = self.sign(
            "capture",
            body,
            about=None if session is None else About(statement=session.id),
            previous=None if session is None else session.last,
        )
        return Entry(
            signed=signed,
            kind="capture",
            path=file.path,
            sha256=file.content.sha256,
            size_bytes=file.content.size_bytes,
            session=None if session is None else session.id,
            number=None if session is None else session.next_number,
        )

    def sign(
        self,
        kind: str,
        body: Mapping[str, JSONValue],
        *,
        about: About | None = None,
        previous: str | None = None,
    ) -> SignedStatement:
        """Make and sign one statement now.

        Raises:
            Misused: a part of it is not of the form that the format demands.
        """
        try:
            raw = make_statement(
                kind,
                audience=self.audience,
                organ=self.organ,
                signer=self.signer.key_id,
                salt=self.fresh_salt(),
                made_at=self.clock(),
                body=body,
                about=about,
                previous=previous,
            )
        except EvidenceError as error:
            place = f" ({error.pointer})" if error.pointer else ""
            raise Misused(f"No such statement can be made. {error.detail}{place}") from error
        return sign_statement(raw, self.signer)


@dataclass(slots=True, kw_only=True)
class OpenSession:
    """A session that this device has opened and not closed.

    Attributes:
        id: statement id of the opening.
        last: the newest statement of the session's chain.
        count: how many captures it has so far.
    """

    id: str
    last: str
    count: int = field(default=0)

    @property
    def next_number(self) -> int:
        """The number of the next capture, from 1."""
        return self.count + 1

    def took(self, capture: Entry) -> None:
        """Go on from this capture."""
        self.last = capture.id
        self.count = max(self.count, capture.number or 0)


def measure_file(path: Path, on_bytes: Callable[[int], object]) -> MeasuredFile:
    """Hash a file in pieces.

    Args:
        path: a regular file.
        on_bytes: told the length of each piece that was hashed.

    Raises:
        Misused: it is no readable regular file.
    """
    if not path.is_file():
        raise Misused(f"{path} is not a file.")
    hasher = Hasher()
    try:
        with path.open("rb") as stream:
            while piece := stream.read(_PIECE_BYTES):
                hasher.update(piece)
                on_bytes(len(piece))
        modified_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError as error:
        raise Misused(f"{path} cannot be read.") from error
    return MeasuredFile(
        named=path,
        path=path.resolve(),
        content=hasher.measured(),
        media_type=media_type_of(path),
        modified_at=modified_at,
    )


def media_type_of(path: Path) -> str:
    """The media type that a file's name tells; what the bytes are is inspected later."""
    suffix = path.suffix.lower()
    guessed = _CAMERA_TYPES.get(suffix) or mimetypes.guess_type(f"x{suffix}")[0] or _UNKNOWN_TYPE
    try:
        MEDIA_TYPE.check(guessed, "")
    except EvidenceError:
        return _UNKNOWN_TYPE
    return guessed


_PLACE = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*,\s*(-?\d+(?:\.\d+)?)\s*(?:,\s*(\d+(?:\.\d+)?)\s*)?")
_UNKNOWN_ACCURACY_M = "100"


def parse_place(text: str) -> JSONObject:
    """Read a claimed place.

    Args:
        text: `latitude,longitude[,accuracy]` in degrees (WGS-84) and metres; without an
            accuracy 100 m is claimed.

    Returns:
        The member `place` of a capture, its source `manual`.

    Raises:
        Misused: another form, or no place on earth.
    """
    found = _PLACE.fullmatch(text)
    if not found or abs(float(found[1])) > 90 or abs(float(found[2])) > 180:
        raise Misused("A place is LATITUDE,LONGITUDE[,ACCURACY_M], such as 30.27410,120.15510,8.")
    return {
        "lat_e7": round(float(found[1]) * 10**7),
        "lon_e7": round(float(found[2]) * 10**7),
        "accuracy_mm": round(float(found[3] or _UNKNOWN_ACCURACY_M) * 1000),
        "source": "manual",
    }
