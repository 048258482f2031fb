r"""Facts of an Exif block: who made the camera, when by its clock, and where.

Does: hands a bare TIFF block to exifread (`details=False`: with maker notes it can be kept
busy for minutes by 2 KB, exif-py#182) inside a budget of reads, and turns the few tags that
matter into text and integers. Refuses: to read maker notes and thumbnails, to assume an
offset from UTC that the camera did not write, and to let any exception of exifread out.

    II*\0 08 00 00 00 | count | 010F Make … 8769 → Exif directory … 8825 → GPS directory

Source: CIPA DC-008-2024 (Exif 3.0) §4.6.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import exifread

from evidence.errors import MediaInvalid
from evidence.media.containers.tiff import first_directory, is_block
from evidence.media.findings import Finding, State
from evidence.media.foreign import guarded
from evidence.media.position import MAX_ALTITUDE_MM, Position, degrees_e7, rationals
from evidence.media.text import clean
from evidence.media.window import MeteredReader, Window

# Blocks of cameras fit into one segment; held in memory they are read without system calls.
HELD_BYTES = 1024 * 1024
_OFFSET = re.compile(r"([+-])(\d{2}):(\d{2})")
_UNSET = re.compile(r"[\s:0]*")  # cameras without a clock write blanks or zeros


@dataclass(frozen=True, slots=True, kw_only=True)
class ExifFacts:
    """What an Exif block says, as found.

    Attributes:
        state: absent, read or present_unreadable.
        make: maker of the camera.
        model: model of the camera.
        software: firmware or the editor that wrote last.
        serial: serial number of the camera body.
        date_time_original: time of the shutter by the camera's clock, text as found; local.
        sub_sec_original: fraction of that second, digits as found.
        offset_original: offset from UTC written for that time, text as found.
        offset_digitized: offset written for the time of digitisation.
        offset_modified: offset written for the last change; not that of the shutter.
        utc_offset_min: `offset_original` in minutes, where it is well-formed.
        orientation: 1 to 8; other numbers as found.
        width_px: image width that the block claims.
        height_px: image height that the block claims.
        lat_e7: latitude, 10^-7 degrees.
        lon_e7: longitude, 10^-7 degrees.
        altitude_mm: above sea level, millimetres.
        error_mm: the camera's own estimate of its horizontal error, millimetres.
        gps_time_utc: date and time of the satellite clock, UTC, `YYYY-MM-DDThh:mm:ssZ`.
        findings: what could not be read, or contradicts itself.
    """

    state: State
    make: str | None = None
    model: str | None = None
    software: str | None = None
    serial: str | None = None
    date_time_original: str | None = None
    sub_sec_original: str | None = None
    offset_original: str | None = None
    offset_digitized: str | None = None
    offset_modified: str | None = None
    utc_offset_min: int | None = None
    orientation: int | None = None
    width_px: int | None = None
    height_px: int | None = None
    lat_e7: int | None = None
    lon_e7: int | None = None
    altitude_mm: int | None = None
    error_mm: int | None = None
    gps_time_utc: str | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def position(self) -> Position | None:
        """The position, if both coordinates were read."""
        if self.lat_e7 is None or self.lon_e7 is None:
            return None
        return Position(lat_e7=self.lat_e7, lon_e7=self.lon_e7, altitude_mm=self.altitude_mm)


def read_exif(block: Window) -> ExifFacts:
    """Read one bare Exif block.

    Args:
        block: a window that begins with a TIFF header.

    Returns:
        Facts with state `read`; values that contradict their tag are left out and noted.

    Raises:
        MediaInvalid: it is no TIFF block, exifread gave up, or none of its entries can be read.
        TooLarge: exifread needed more steps than any real block asks for.
    """
    if not is_block(block):
        raise MediaInvalid("The Exif block has no TIFF header.")
    if block.size <= HELD_BYTES:
        block = Window.of(block.peek(0, block.size))
    reader = MeteredReader(block).as_binary()
    raw = guarded(
        "exifread",
        lambda: exifread.process_file(reader, details=False, extract_thumbnail=False),
    )
    tags = _Tags(cast("Mapping[str, Any]", raw))
    if not raw and first_directory(block):
        raise MediaInvalid("The Exif block has no entry that can be read.")
    position, findings = _position(tags)
    offset = tags.text("EXIF OffsetTimeOriginal")
    orientation = tags.number("Image Orientation")
    if orientation is not None and not 1 <= orientation <= 8:
        findings.append(Finding(code="exif_inconsistent", facet="exif"))
    return ExifFacts(
        state=State.READ,
        make=tags.text("Image Make") or tags.text("EXIF Make"),
        model=tags.text("Image Model") or tags.text("EXIF Model"),
        software=tags.text("Image Software"),
        serial=tags.text("EXIF BodySerialNumber"),
        date_time_original=tags.time("EXIF DateTimeOriginal"),
        sub_sec_original=tags.text("EXIF SubSecTimeOriginal"),
        offset_original=offset,
        offset_digitized=tags.text("EXIF OffsetTimeDigitized"),
        offset_modified=tags.text("EXIF OffsetTime"),
        utc_offset_min=offset_minutes(offset or ""),
        orientation=orientation,
        width_px=tags.number("EXIF ExifImageWidth"),
        height_px=tags.number("EXIF ExifImageLength"),
        lat_e7=position.lat_e7 if position else None,
        lon_e7=position.lon_e7 if position else None,
        altitude_mm=_altitude(tags),
        error_mm=_millimetres(tags.fractions("GPS Tag 0x001F"), MAX_ALTITUDE_MM),
        gps_time_utc=_gps_time(tags),
        findings=tuple(findings),
    )


def offset_minutes(text: str) -> int | None:
    """Return an offset such as `+05:30` in minutes, or None if it has another form."""
    match = _OFFSET.fullmatch(text)
    if match is None or int(match[2]) > 18 or int(match[3]) > 59:
        return None
    minutes = int(match[2]) * 60 + int(match[3])
    return -minutes if match[1] == "-" else minutes


class _Tags:
    """Typed, distrustful access to what exifread returns."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._raw = raw

    def _values(self, name: str) -> object:
        return getattr(self._raw.get(name), "values", None)

    def text(self, name: str) -> str | None:
        """Return a text, cleaned; None if there is none or it is blank."""
        value = self._values(name)
        return clean(value) or None if isinstance(value, (str, bytes)) else None

    def time(self, name: str) -> str | None:
        """Return a time as found; None if the camera's clock was not set."""
        text = self.text(name)
        return None if text is None or _UNSET.fullmatch(text) else text

    def number(self, name: str) -> int | None:
        """Return a single integer within 32 bits."""
        value = self._values(name)
        if isinstance(value, list) and len(cast("list[object]", value)) >= 1:
            first = cast("list[object]", value)[0]
            return first if isinstance(first, int) else None
        return None

    def fractions(self, name: str) -> list[Fraction]:
        """Return rational values; unset ones (denominator 0) count as 0.

        Raises:
            MediaInvalid: the value is text of another form.
        """
        value = self._values(name)
        if isinstance(value, str) and value:
            return rationals(value)
        if not isinstance(value, list):
            return []
        listed = cast("list[object]", value)
        return [_plain(item) for item in listed if isinstance(item, (int, Fraction))]


def _plain(value: int | Fraction) -> Fraction:
    return Fraction(value.numerator, value.denominator) if value.denominator else Fraction()


def _position(tags: _Tags) -> tuple[Position | None, list[Finding]]:
    """Return the position, or a finding if one was written that cannot be read."""
    try:
        lat, lon = tags.fractions("GPS GPSLatitude"), tags.fractions("GPS GPSLongitude")
        if not lat and not lon:
            return None, []
        position = Position(
            lat_e7=degrees_e7(lat, _hemisphere(tags, "GPS GPSLatitudeRef", "NS")),
            lon_e7=degrees_e7(lon, _hemisphere(tags, "GPS GPSLongitudeRef", "EW")),
        )
    except MediaInvalid as error:
        return None, [Finding(code="location_unreadable", facet="exif", detail=error.detail)]
    as_text = tags.text("GPS GPSLatitude") or tags.text("GPS GPSLongitude")
    return position, [Finding(code="exif_inconsistent", facet="exif")] if as_text else []


def _hemisphere(tags: _Tags, name: str, allowed: str) -> str:
    letter = (tags.text(name) or "")[:1].upper()
    return letter if letter and letter in allowed else ""


def _altitude(tags: _Tags) -> int | None:
    """Return the altitude; the reference 1 means below sea level, 0 or nothing above."""
    try:
        value = _millimetres(tags.fractions("GPS GPSAltitude"), MAX_ALTITUDE_MM)
    except MediaInvalid:
        return None
    below = tags.number("GPS GPSAltitudeRef") == 1
    return -value if below and value is not None else value


def _millimetres(values: Sequence[Fraction], limit: int) -> int | None:
    if len(values) != 1:
        return None
    rounded = round(values[0] * 1000)
    return rounded if abs(rounded) <= limit else None


def _gps_time(tags: _Tags) -> str | None:
    """Return date and time of the satellite clock if both are there and possible."""
    date = re.fullmatch(r"(\d{4})[:-](\d{2})[:-](\d{2})", tags.text("GPS GPSDate") or "")
    try:
        clock = tags.fractions("GPS GPSTimeStamp")
    except MediaInvalid:
        return None
    if date is None or len(clock) != 3:
        return None
    hour, minute, second = (int(part) for part in clock)
    if not (0 <= hour < 24 and 0 <= minute < 60 and 0 <= second < 60):
        return None
    return f"{date[1]}-{date[2]}-{date[3]}T{hour:02}:{minute:02}:{second:02}Z"
