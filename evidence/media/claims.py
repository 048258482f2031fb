"""The file's facts beside the device's claim: where they differ, and by how much.

Does: compares the body of a `capture` statement with what was read from its content and
lists the differences with their size. Refuses to judge: a wrong camera clock and a forged
photo look alike here, and the difference is all that is recorded. Refuses to compare what
cannot be compared: a local time without an offset is never taken for UTC.

    Discrepancy(code="time_differs", claimed="2026-11-23T01:04:05.678Z", read="…", difference=42)
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import asin, cos, radians, sin, sqrt
from types import MappingProxyType
from typing import cast

from evidence.media.sniff import same_type

# Exif writes whole seconds and the claim milliseconds: up to a second apart they agree.
TIME_RESOLUTION_S = 1
# The mean Earth radius of the International Union of Geodesy, millimetres.
EARTH_RADIUS_MM = 6_371_008_800
_LOCAL_TIME = re.compile(r"(\d{4})[:-](\d{2})[:-](\d{2})[ T](\d{2}):(\d{2}):(\d{2})")
_DATED_TIME = re.compile(_LOCAL_TIME.pattern + r"(?:\.\d+)?([+-])(\d{2}):?(\d{2})")


DISCREPANCIES = MappingProxyType(
    {
        "media_type_differs": "The bytes are of another media type than was claimed.",
        "time_differs": "The file names another instant.",
        "local_time_differs": "The file's wall clock, which names no offset, shows another time.",
        "gps_time_differs": "The satellite clock in the file names another instant.",
        "utc_offset_differs": "The file names another offset from UTC.",
        "time_only_claimed": "The file names no time of its own.",
        "place_differs": "The file's position lies farther off than the claim's accuracy.",
        "height_differs": "The file's altitude lies farther off than the claim's accuracy.",
        "place_only_claimed": "The file names no position of its own.",
        "place_only_in_file": "The file names a position, the claim does not.",
        "make_differs": "The file names another maker.",
        "model_differs": "The file names another model.",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrepancy:
    """One difference between a claim and a file.

    Attributes:
        code: a name in `DISCREPANCIES`.
        claimed: what the device said, as text; empty if it said nothing.
        read: what the file says, as text; empty if it says nothing.
        difference: how far apart, in `unit`, or None where there is no distance.
        unit: `s`, `min`, `mm`, or empty.
    """

    code: str
    claimed: str = ""
    read: str = ""
    difference: int | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        """Refuse what the registry does not know; a wrong code is a programming mistake."""
        if self.code not in DISCREPANCIES:
            raise ValueError(f"No such discrepancy: {self.code}.")

    def to_json(self) -> dict[str, str | int]:
        """Return the discrepancy as members of a canonical JSON object."""
        members: dict[str, str | int] = {
            "claimed": self.claimed,
            "code": self.code,
            "read": self.read,
        }
        if self.difference is not None:
            members |= {"difference": self.difference, "unit": self.unit}
        return members


def compare(claim: Mapping[str, object], facts: Mapping[str, object]) -> list[Discrepancy]:
    """List where a capture's claim and its content differ.

    Args:
        claim: the body of a `capture` statement that its schema accepted.
        facts: what was read from the content, as `MediaFacts.to_json` writes it; so that a
            reviewer can compare again years later, without the decoders.

    Returns:
        Differences beyond what the claim itself concedes (its accuracy) and what the file can
        express (whole seconds): media type, time, offset, place, height, make, model.
    """
    return [
        *_media_type(claim, facts),
        *_time(claim, facts),
        *_place(claim, facts),
        *_device(claim, facts),
    ]


def distance_mm(one: tuple[int, int], other: tuple[int, int]) -> int:
    """Return the distance of two points on a sphere, millimetres.

    Args:
        one: latitude and longitude, 10^-7 degrees.
        other: likewise.
    """
    lat_a, lon_a, lat_b, lon_b = (radians(part / 1e7) for part in (*one, *other))
    across = sin((lat_b - lat_a) / 2) ** 2
    along = cos(lat_a) * cos(lat_b) * sin((lon_b - lon_a) / 2) ** 2
    return round(2 * EARTH_RADIUS_MM * asin(min(1.0, sqrt(across + along))))


def _media_type(claim: Mapping[str, object], facts: Mapping[str, object]) -> list[Discrepancy]:
    content = cast("Mapping[str, object]", claim.get("content", {}))
    claimed, read = str(content.get("media_type", "")), str(facts.get("sniffed_media_type", ""))
    if not facts.get("size_bytes") or same_type(claimed, read):
        return []
    return [Discrepancy(code="media_type_differs", claimed=claimed, read=read)]


def _time(claim: Mapping[str, object], facts: Mapping[str, object]) -> list[Discrepancy]:
    """Compare instants where the file names one, else wall clocks where the claim allows it."""
    claimed_text = str(claim.get("captured_at", ""))
    claimed = datetime.strptime(claimed_text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    offset_min = cast("int | None", claim.get("utc_offset_min"))
    differences: list[Discrepancy] = []
    instant, local, read_offset = _read_time(facts)
    if instant is not None:
        differences += _seconds("time_differs", claimed, instant, claimed_text)
    elif local is not None and offset_min is not None:
        wall = (claimed + timedelta(minutes=offset_min)).replace(tzinfo=None)
        differences += _seconds("local_time_differs", wall, local, wall.isoformat("T", "seconds"))
    elif local is None:
        differences.append(Discrepancy(code="time_only_claimed", claimed=claimed_text))
    satellite = _parsed(_text(facts, "exif", "gps_time_utc"))
    if satellite is not None:
        satellite = satellite.replace(tzinfo=UTC)
        differences += _seconds("gps_time_differs", claimed, satellite, claimed_text)
    if None not in {offset_min, read_offset} and offset_min != read_offset:
        apart = cast("int", read_offset) - cast("int", offset_min)
        differences.append(
            Discrepancy(
                code="utc_offset_differs",
                claimed=str(offset_min),
                read=str(read_offset),
                difference=apart,
                unit="min",
            )
        )
    return differences


def _read_time(facts: Mapping[str, object]) -> tuple[datetime | None, datetime | None, int | None]:
    """Return the file's instant, its wall clock, and its offset in minutes.

    `mvhd` counts as no instant: the standard says UTC, and many cameras write local time.
    """
    local = _parsed(_text(facts, "exif", "date_time_original"))
    offset = _number(facts, "exif", "utc_offset_min")
    dated = _DATED_TIME.fullmatch(_text(facts, "video", "creation_date"))
    if local is None and dated:
        local = _parsed(dated[0])
        minutes = int(dated[8]) * 60 + int(dated[9])
        offset = -minutes if dated[7] == "-" else minutes
    if local is None or offset is None:
        return None, local, offset
    return (local - timedelta(minutes=offset)).replace(tzinfo=UTC), local, offset


def _parsed(text: str) -> datetime | None:
    """Return the wall clock at the beginning of a text, or None if it names no real time."""
    match = _LOCAL_TIME.match(text)
    if match is None:
        return None
    try:
        year, month, day, hour, minute, second = (int(part) for part in match.groups())
        return datetime(year, month, day, hour, minute, second)  # noqa: DTZ001  a wall clock
    except ValueError:
        return None


def _seconds(code: str, claimed: datetime, read: datetime, claimed_text: str) -> list[Discrepancy]:
    apart = round((read - claimed).total_seconds())
    if abs(apart) <= TIME_RESOLUTION_S:
        return []
    read_text = read.replace(tzinfo=None).isoformat("T", "seconds")
    return [
        Discrepancy(
            code=code,
            claimed=claimed_text,
            read=read_text + ("Z" if read.tzinfo else ""),
            difference=apart,
            unit="s",
        )
    ]


def _place(claim: Mapping[str, object], facts: Mapping[str, object]) -> list[Discrepancy]:
    """Compare positions beyond the accuracy that the claim itself gives."""
    place = cast("Mapping[str, int] | None", claim.get("place"))
    lat, lon = _number(facts, "location", "lat_e7"), _number(facts, "location", "lon_e7")
    there = lat is not None and lon is not None
    read = (lat or 0, lon or 0)
    read_text = f"{read[0]},{read[1]}" if there else ""
    if place is None:
        return [Discrepancy(code="place_only_in_file", read=read_text)] if there else []
    claimed = (place["lat_e7"], place["lon_e7"])
    claimed_text = f"{claimed[0]},{claimed[1]}"
    if not there:
        return [Discrepancy(code="place_only_claimed", claimed=claimed_text)]
    differences: list[Discrepancy] = []
    apart = distance_mm(claimed, read)
    if apart > place["accuracy_mm"]:
        differences.append(
            Discrepancy(
                code="place_differs",
                claimed=claimed_text,
                read=read_text,
                difference=apart,
                unit="mm",
            )
        )
    height, altitude = place.get("height_mm"), _number(facts, "location", "altitude_mm")
    if (
        height is not None
        and altitude is not None
        and abs(altitude - height) > place["accuracy_mm"]
    ):
        differences.append(
            Discrepancy(
                code="height_differs",
                claimed=str(height),
                read=str(altitude),
                difference=altitude - height,
                unit="mm",
            )
        )
    return differences


def _device(claim: Mapping[str, object], facts: Mapping[str, object]) -> list[Discrepancy]:
    """Compare make and model where both sides name them; case and blanks aside."""
    differences: list[Discrepancy] = []
    for name in ("make", "model"):
        claimed = str(claim.get(name, ""))
        texts = (_text(facts, facet, name) for facet in ("exif", "xmp", "video"))
        read = next(filter(None, texts), "")
        if claimed and read and _folded(claimed) != _folded(read):
            differences.append(Discrepancy(code=f"{name}_differs", claimed=claimed, read=read))
    return differences


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _member(facts: Mapping[str, object], facet: str, name: str) -> object:
    return cast("Mapping[str, object]", facts.get(facet, {})).get(name)


def _text(facts: Mapping[str, object], facet: str, name: str) -> str:
    value = _member(facts, facet, name)
    return value if isinstance(value, str) else ""


def _number(facts: Mapping[str, object], facet: str, name: str) -> int | None:
    value = _member(facts, facet, name)
    return value if isinstance(value, int) else None
