"""Positions as integers, from the five ways in which files write them.

Does: turns degrees, minutes and seconds (rational, or text that a careless writer left),
ISO 6709 texts, XMP coordinates and 16.16 fixed point into ten-millionths of a degree and
millimetres, exactly and without floats. Refuses values off the globe, and to fill in a
hemisphere that nobody wrote.

    iso6709("+27.2939+112.6932/") == Position(lat_e7=272939000, lon_e7=1126932000)

Source: CIPA DC-008 §4.6.6 (GPS), ISO 6709:2008 annex H, Adobe XMP part 2 §1.2.7.4.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from evidence.errors import MediaInvalid

_E7 = 10**7
_SEXAGESIMAL = (1, 60, 3600)
# 100 km: higher than any aircraft, far lower than any overflow.
MAX_ALTITUDE_MM = 100_000_000

_ISO_6709 = re.compile(
    r"([+-]\d{2,6}(?:\.\d{1,12})?)([+-]\d{3,7}(?:\.\d{1,12})?)([+-]\d{1,6}(?:\.\d{1,12})?)?"
)
_XMP = re.compile(r"(\d{1,3}),(\d{1,2}(?:\.\d{1,15})?)(?:,(\d{1,2}(?:\.\d{1,15})?))?([NSEW])")
_DECIMAL = re.compile(r"[+-]?\d{1,6}(?:\.\d{1,15})?")
_DECIMAL_COMMAS = re.compile(",".join([r"(\d{1,3}),(\d{5})"] * 3))
_RATIONAL = re.compile(r"([+-]?\d{1,12})(?:/(\d{1,12}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A point on the globe as a file names it (WGS 84 unless the file says otherwise).

    Attributes:
        lat_e7: latitude in 10^-7 degrees, −90° to 90°.
        lon_e7: longitude in 10^-7 degrees, −180° to 180°.
        altitude_mm: metres above sea level times 1,000, or None.
    """

    lat_e7: int
    lon_e7: int
    altitude_mm: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is not on the globe.

        Raises:
            MediaInvalid: latitude, longitude or altitude is impossible.
        """
        if abs(self.lat_e7) > 90 * _E7 or abs(self.lon_e7) > 180 * _E7:
            raise MediaInvalid("A position lies off the globe.")
        if self.altitude_mm is not None and abs(self.altitude_mm) > MAX_ALTITUDE_MM:
            raise MediaInvalid("An altitude is beyond every aircraft.")

    @property
    def is_zero(self) -> bool:
        """Whether this is 0° 0°, which devices without a fix write."""
        return not self.lat_e7 and not self.lon_e7


def degrees_e7(parts: Sequence[Fraction], hemisphere: str) -> int:
    """Return degrees, minutes and seconds as 10^-7 degrees, rounded half to even.

    Args:
        parts: one to three numbers, degrees first.
        hemisphere: N, S, E or W.

    Raises:
        MediaInvalid: another number of parts, a negative one, or no hemisphere.
    """
    if not 1 <= len(parts) <= 3 or any(part < 0 for part in parts):
        raise MediaInvalid("A coordinate has another form than degrees, minutes, seconds.")
    if hemisphere not in {"N", "S", "E", "W"}:
        raise MediaInvalid("A coordinate names no hemisphere.")
    value = sum((part / unit for part, unit in zip(parts, _SEXAGESIMAL, strict=False)), Fraction())
    return round(-value * _E7 if hemisphere in {"S", "W"} else value * _E7)


def rationals(text: str) -> list[Fraction]:
    """Return degrees, minutes and seconds out of text, where rationals should stand.

    Two forms are seen: `52/1,50/1,34/1`, and `52,00000,50,00000,34,01180` by a phone whose
    language writes decimal commas: 52° 50′ 34.0118″.

    Raises:
        MediaInvalid: it is no such text.
    """
    commas = _DECIMAL_COMMAS.fullmatch(text.strip())
    if commas:
        numbers = commas.groups()
        return [Fraction(f"{numbers[at]}.{numbers[at + 1]}") for at in (0, 2, 4)]
    matches = [_RATIONAL.fullmatch(part.strip()) for part in text.split(",")[:4]]
    if not all(matches):
        raise MediaInvalid("A coordinate is text of another form.")
    return [_fraction(match) for match in matches if match]


def metres_mm(text: str) -> int | None:
    """Return metres written as a decimal or a rational as millimetres, or None."""
    text = text.strip()
    if _DECIMAL.fullmatch(text):
        return round(Fraction(text) * 1000)
    match = _RATIONAL.fullmatch(text)
    return round(_fraction(match) * 1000) if match and match[2] and int(match[2]) else None


def iso6709(text: str) -> Position:
    """Read an ISO 6709 text as cameras write it: ±DD.D, ±DDMM.M or ±DDMMSS.S, then longitude.

    Raises:
        MediaInvalid: it is no such text, or off the globe.
    """
    match = _ISO_6709.match(text.strip())
    if match is None:
        raise MediaInvalid("A film's position is not in the form of ISO 6709.")
    altitude = None if match[3] is None else round(Fraction(match[3]) * 1000)
    return Position(
        lat_e7=_compact(match[1], 2), lon_e7=_compact(match[2], 3), altitude_mm=altitude
    )


def xmp_coordinate(text: str) -> int:
    """Read an XMP coordinate, `DDD,MM.mmk` or `DDD,MM,SSk`, as 10^-7 degrees.

    Raises:
        MediaInvalid: it is no such text.
    """
    match = _XMP.fullmatch(text.strip())
    if match is None:
        raise MediaInvalid("A coordinate in XMP has another form.")
    return degrees_e7([Fraction(part) for part in match.groups()[:3] if part], match[4])


def fixed_point(latitude: int, longitude: int, altitude: int) -> Position:
    """Read a 3GPP `loci` place: 16.16 fixed point degrees and metres.

    Raises:
        MediaInvalid: off the globe.
    """
    return Position(
        lat_e7=round(Fraction(latitude * _E7, 65536)),
        lon_e7=round(Fraction(longitude * _E7, 65536)),
        altitude_mm=round(Fraction(altitude * 1000, 65536)),
    )


def _fraction(match: re.Match[str]) -> Fraction:
    """Return numerator over denominator; a denominator of 0 is an unset value, read as 0."""
    below = int(match[2] or 1)
    return Fraction(int(match[1]), below) if below else Fraction()


def _compact(text: str, degree_digits: int) -> int:
    """Read ±D.., ±D..MM or ±D..MMSS (with fraction) as 10^-7 degrees."""
    sign, digits = text[0], text[1:]
    whole, _, fraction = digits.partition(".")
    groups = [whole[:degree_digits]]
    groups += [whole[at : at + 2] for at in range(degree_digits, len(whole), 2)]
    if len(groups) > 3 or any(len(group) != 2 for group in groups[1:]):
        raise MediaInvalid("A film's position is not in the form of ISO 6709.")
    groups[-1] += f".{fraction}" if fraction else ""
    return degrees_e7([Fraction(group) for group in groups], "S" if sign == "-" else "N")
