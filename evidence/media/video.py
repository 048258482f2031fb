"""Facts of a film's header: when, where, with what.

Does: turns the texts and numbers that the movie walker found into a creation time, a
position and a camera. Refuses to call the creation time local or attested: `mvhd` is UTC by
the standard and local time by the habit of some cameras, so it is given as read.

    mvhd creation_time 3789783938 → "2024-02-03T07:05:38Z"

Source: ISO/IEC 14496-12 §8.2.2 (seconds since 1904-01-01); QuickTime File Format.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from evidence.errors import MediaInvalid
from evidence.media.containers.found import MovieHeader
from evidence.media.findings import Finding, State
from evidence.media.position import Position, fixed_point, iso6709
from evidence.media.text import clean

_EPOCH = datetime(1904, 1, 1, tzinfo=UTC)
# 2^32 seconds reach to 2040; a 64-bit time beyond year 9999 is damage.
MAX_CREATED_S = 255_485_145_600


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFacts:
    """What a film header says, as found.

    Attributes:
        state: absent, read or present_unreadable.
        created_utc: creation time of the film header, `YYYY-MM-DDThh:mm:ssZ`.
        creation_date: the text that a phone wrote with its local time and offset.
        make: maker of the camera.
        model: model of the camera.
        software: system or editor that wrote the film.
        lat_e7: latitude, 10^-7 degrees.
        lon_e7: longitude, 10^-7 degrees.
        altitude_mm: above sea level, millimetres.
        findings: what could not be read.
    """

    state: State
    created_utc: str | None = None
    creation_date: str | None = None
    make: str | None = None
    model: str | None = None
    software: str | None = None
    lat_e7: int | None = None
    lon_e7: int | None = None
    altitude_mm: int | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def position(self) -> Position | None:
        """The position, if one was read."""
        if self.lat_e7 is None or self.lon_e7 is None:
            return None
        return Position(lat_e7=self.lat_e7, lon_e7=self.lon_e7, altitude_mm=self.altitude_mm)


def read_video(header: MovieHeader) -> VideoFacts:
    """Turn a film header into facts.

    Args:
        header: what the walker found.

    Returns:
        Facts; state `present_unreadable` if the header was damaged and holds nothing.
    """
    findings: list[Finding] = []
    texts: dict[str, str] = {}
    for name, value in header.texts:
        texts.setdefault(name, clean(value))
    created = header.created_s if (header.created_s or 0) <= MAX_CREATED_S else None
    position = _position(header, findings)
    if header.damaged or created != header.created_s:
        findings.append(Finding(code="video_unreadable", facet="video"))
    nothing = header.damaged and not (created or texts or position)
    return VideoFacts(
        state=State.PRESENT_UNREADABLE if nothing else State.READ,
        created_utc=_utc(created) if created else None,
        creation_date=texts.get("creationdate"),
        make=texts.get("make"),
        model=texts.get("model"),
        software=texts.get("software"),
        lat_e7=position.lat_e7 if position else None,
        lon_e7=position.lon_e7 if position else None,
        altitude_mm=position.altitude_mm if position else None,
        findings=tuple(findings),
    )


def _utc(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _position(header: MovieHeader, findings: list[Finding]) -> Position | None:
    """Return the first position that can be read; note one that cannot."""
    for text in header.iso6709:
        try:
            return iso6709(clean(text))
        except MediaInvalid as error:
            findings.append(Finding(code="location_unreadable", facet="video", detail=error.detail))
    if header.loci is None:
        return None
    try:
        return fixed_point(*header.loci)
    except MediaInvalid as error:
        findings.append(Finding(code="location_unreadable", facet="video", detail=error.detail))
        return None
