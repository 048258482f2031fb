r"""Write Exif and XMP into a rendered JPEG, the way cameras and drones do.

Does: builds a little-endian TIFF block with IFD0, Exif and GPS directories and an XMP packet
with DJI's names for a drone's attitude, and puts both behind the start of the image. Refuses
to pretend: maker, model and description say that the picture is rendered.

    FF D8 | FF E1 "Exif\0\0" II*\0 … | FF E1 "http://ns.adobe.com/xap/1.0/\0" <x:xmpmeta … | …

Source: CIPA DC-008 §4.6; TIFF 6.0 §2; Adobe XMP part 3 §1.1.3; IPTC digital source types.
"""

import struct
from dataclasses import dataclass
from datetime import datetime, timedelta

ORIGIN = "rendered by the Fengni project, shows no real place"
MAKE, MODEL, DRONE_MODEL = "Fengni", "Rendered demo camera", "Rendered demo drone"
_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicMedia"
_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED = 1, 2, 3, 4, 5, 7
_Entry = tuple[int, int, int, bytes]  # tag, type, count, value


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """Attitude of a drone and its camera, thousandths of a degree; altitudes in millimetres."""

    gimbal_yaw_mdeg: int
    gimbal_pitch_mdeg: int
    gimbal_roll_mdeg: int
    flight_yaw_mdeg: int
    flight_pitch_mdeg: int
    flight_roll_mdeg: int
    relative_altitude_mm: int
    absolute_altitude_mm: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """When, where and how large.

    Attributes:
        taken_at: UTC-aware.
        utc_offset_min: offset of the local time, minutes.
        lat_e7: latitude, 10^-7 degrees.
        lon_e7: longitude, 10^-7 degrees.
        altitude_mm: above sea level, millimetres.
        accuracy_mm: horizontal error, millimetres.
        width_px: picture width.
        height_px: picture height.
        flight: attitude, if a drone took it.
    """

    taken_at: datetime
    utc_offset_min: int
    lat_e7: int
    lon_e7: int
    altitude_mm: int
    accuracy_mm: int
    width_px: int
    height_px: int
    flight: Flight | None = None


def with_metadata(jpeg: bytes, shot: Shot) -> bytes:
    """Return a JPEG with Exif and XMP behind its first marker.

    Args:
        jpeg: a JPEG without either.
        shot: what they say.
    """
    exif = b"Exif\x00\x00" + exif_block(shot)
    packet = b"http://ns.adobe.com/xap/1.0/\x00" + xmp_packet(shot)
    segments = (b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in (exif, packet))
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def exif_block(shot: Shot) -> bytes:
    """Return a bare TIFF block with IFD0, Exif and GPS directories."""
    local = shot.taken_at + timedelta(minutes=shot.utc_offset_min)
    time = _text(local.strftime("%Y:%m:%d %H:%M:%S"))
    offset = _text(_offset(shot.utc_offset_min))
    first: list[_Entry] = [
        (0x010E, *_text(ORIGIN)),
        (0x010F, *_text(MAKE)),
        (0x0110, *_text(DRONE_MODEL if shot.flight else MODEL)),
        (0x0112, *_short(1)),
        (0x011A, *_rationals((72, 1))),
        (0x011B, *_rationals((72, 1))),
        (0x0128, *_short(2)),
        (0x0131, *_text("Fengni demo")),
        (0x0132, *time),
        (0x0213, *_short(1)),
    ]
    exif: list[_Entry] = [
        (0x9000, _UNDEFINED, 4, b"0232"),
        (0x9003, *time),
        (0x9004, *time),
        (0x9101, _UNDEFINED, 4, bytes((1, 2, 3, 0))),  # Y, Cb, Cr
        (0x9010, *offset),
        (0x9011, *offset),
        (0x9012, *offset),
        (0x9291, *_text(f"{shot.taken_at.microsecond // 1000:03}")),
        (0xA000, _UNDEFINED, 4, b"0100"),
        (0xA001, *_short(1)),
        (0xA002, _LONG, 1, struct.pack("<I", shot.width_px)),
        (0xA003, _LONG, 1, struct.pack("<I", shot.height_px)),
    ]
    return _assemble(first, exif, _gps(shot))


def xmp_packet(shot: Shot) -> bytes:
    """Return an XMP packet: origin and source type, and a drone's attitude if there is one."""
    attitude = "".join(
        f'\n   drone-dji:{name}="{value / 1000:+.2f}"' for name, value in _attitude(shot.flight)
    )
    return f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
   xmlns:dc="http://purl.org/dc/elements/1.1/"
   xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
   xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
   xmlns:drone-dji="http://www.dji.com/drone-dji/1.0/"
   tiff:Make="{MAKE}"
   tiff:Model="{DRONE_MODEL if shot.flight else MODEL}"
   Iptc4xmpExt:DigitalSourceType="{_SOURCE_TYPE}"{attitude}>
   <dc:description>
    <rdf:Alt><rdf:li xml:lang="x-default">{ORIGIN}</rdf:li></rdf:Alt>
   </dc:description>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>""".encode()


def _attitude(flight: Flight | None) -> list[tuple[str, int]]:
    """Return DJI's names with thousandths of a degree or of a metre."""
    if flight is None:
        return []
    return [
        ("AbsoluteAltitude", flight.absolute_altitude_mm),
        ("RelativeAltitude", flight.relative_altitude_mm),
        ("GimbalRollDegree", flight.gimbal_roll_mdeg),
        ("GimbalYawDegree", flight.gimbal_yaw_mdeg),
        ("GimbalPitchDegree", flight.gimbal_pitch_mdeg),
        ("FlightRollDegree", flight.flight_roll_mdeg),
        ("FlightYawDegree", flight.flight_yaw_mdeg),
        ("FlightPitchDegree", flight.flight_pitch_mdeg),
    ]


def _gps(shot: Shot) -> list[_Entry]:
    """Return the entries of the GPS directory."""
    at = shot.taken_at
    return [
        (0x0000, _BYTE, 4, bytes((2, 3, 0, 0))),
        (0x0001, *_text("S" if shot.lat_e7 < 0 else "N")),
        (0x0002, *_degrees(shot.lat_e7)),
        (0x0003, *_text("W" if shot.lon_e7 < 0 else "E")),
        (0x0004, *_degrees(shot.lon_e7)),
        (0x0005, _BYTE, 1, bytes((int(shot.altitude_mm < 0),))),
        (0x0006, *_rationals((abs(shot.altitude_mm), 1000))),
        (0x0007, *_rationals((at.hour, 1), (at.minute, 1), (at.second, 1))),
        (0x0012, *_text("WGS-84")),
        (0x001D, *_text(at.strftime("%Y:%m:%d"))),
        (0x001F, *_rationals((shot.accuracy_mm, 1000))),
    ]


def _degrees(value_e7: int) -> tuple[int, int, bytes]:
    """Return degrees, minutes and ten-thousandths of a second: two millimetres on the ground."""
    tenthousandths = round(abs(value_e7) * 3600 * 10_000 / 10**7)
    minutes, seconds = divmod(tenthousandths, 600_000)
    return _rationals((minutes // 60, 1), (minutes % 60, 1), (seconds, 10_000))


def _offset(minutes: int) -> str:
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"


def _text(value: str) -> tuple[int, int, bytes]:
    data = value.encode("ascii") + b"\x00"
    return _ASCII, len(data), data


def _short(value: int) -> tuple[int, int, bytes]:
    return _SHORT, 1, struct.pack("<H", value)


def _rationals(*pairs: tuple[int, int]) -> tuple[int, int, bytes]:
    return _RATIONAL, len(pairs), b"".join(struct.pack("<II", *pair) for pair in pairs)


def _assemble(first: list[_Entry], exif: list[_Entry], gps: list[_Entry]) -> bytes:
    """Lay the three directories out one behind another and point IFD0 at the other two."""
    start = 8
    exif_at = start + len(_directory([*first, *_pointers(0, 0)], start))
    gps_at = exif_at + len(_directory(exif, exif_at))
    head = b"II*\x00" + struct.pack("<I", start)
    body = _directory([*first, *_pointers(exif_at, gps_at)], start)
    return head + body + _directory(exif, exif_at) + _directory(gps, gps_at)


def _pointers(exif_at: int, gps_at: int) -> list[_Entry]:
    return [
        (0x8769, _LONG, 1, struct.pack("<I", exif_at)),
        (0x8825, _LONG, 1, struct.pack("<I", gps_at)),
    ]


def _directory(entries: list[_Entry], start: int) -> bytes:
    """Return one directory with the values that do not fit into its entries behind it."""
    rows, values = b"", b""
    values_at = start + 2 + 12 * len(entries) + 4
    for tag, kind, count, data in sorted(entries):
        field = data.ljust(4, b"\x00")
        if len(data) > 4:
            field = struct.pack("<I", values_at + len(values))
            values += data + b"\x00" * (len(data) % 2)
        rows += struct.pack("<HHI", tag, kind, count) + field
    return struct.pack("<H", len(entries)) + rows + b"\x00" * 4 + values
