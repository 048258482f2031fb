"""Small media files made by the tests: real structures, and structures made to hurt.

Every builder writes bytes by the format's own rules; nothing here comes out of the code under
test but the demo photos' Exif writer, which ExifTool is asked about in its own test.
"""

import struct
import zlib
from datetime import UTC, datetime
from itertools import pairwise

import cv2
import numpy as np

from service.demo_photos.structures import Flight, Shot, exif_block, xmp_packet

SHOT = Shot(
    taken_at=datetime(2026, 11, 23, 1, 4, 5, 678000, tzinfo=UTC),
    utc_offset_min=480,
    lat_e7=302_500_000,
    lon_e7=1_201_700_000,
    altitude_mm=9_400,
    accuracy_mm=6_000,
    width_px=64,
    height_px=48,
)
FLIGHT = Flight(
    gimbal_yaw_mdeg=-42_500,
    gimbal_pitch_mdeg=-90_000,
    gimbal_roll_mdeg=0,
    flight_yaw_mdeg=-41_900,
    flight_pitch_mdeg=-3_200,
    flight_roll_mdeg=1_100,
    relative_altitude_mm=60_300,
    absolute_altitude_mm=71_900,
)
EXIF = exif_block(SHOT)
XMP = xmp_packet(SHOT)
XMP_MARK = b"http://ns.adobe.com/xap/1.0/\x00"
C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")


def picture(width: int = 64, height: int = 48) -> np.ndarray:
    """A picture with edges and a gradient, BGR."""
    ramp = np.linspace(0, 255, width, dtype=np.uint8)
    grey = np.broadcast_to(ramp, (height, width)).copy()
    grey[: height // 2, : width // 2] = 240
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)


def encoded(kind: str, width: int = 64, height: int = 48) -> bytes:
    """The picture in a format that OpenCV writes, such as `.jpg`."""
    done, data = cv2.imencode(kind, picture(width, height))
    assert done
    return data.tobytes()


def segment(marker: int, body: bytes) -> bytes:
    """A JPEG segment."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def jpeg(*segments: bytes, tail: bytes = b"") -> bytes:
    """A JPEG with further segments behind its start and bytes behind its end."""
    base = encoded(".jpg")
    return base[:2] + b"".join(segments) + base[2:] + tail


def exif_segment(block: bytes = EXIF) -> bytes:
    """An APP1 segment with an Exif block."""
    return segment(0xE1, b"Exif\x00\x00" + block)


def xmp_segment(packet: bytes = XMP) -> bytes:
    """An APP1 segment with an XMP packet."""
    return segment(0xE1, XMP_MARK + packet)


def c2pa_segment() -> bytes:
    """An APP11 segment that begins a C2PA manifest store, and nothing sensible inside."""
    uuid = bytes.fromhex("6332706100110010800000AA00389B71")
    jumd = struct.pack(">I", 8 + 16 + 1 + 5) + b"jumd" + uuid + b"\x03" + b"c2pa\x00"
    return segment(0xEB, b"JP\x00\x01\x00\x00\x00\x01" + box(b"jumb", jumd))


def chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks: bytes, tail: bytes = b"") -> bytes:
    """A PNG with further chunks behind IHDR and bytes behind IEND."""
    base = encoded(".png")
    return base[:33] + b"".join(chunks) + base[33:] + tail


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header names a size, with hardly any data."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\x00" * 4096)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def raw_profile(kind: bytes, payload: bytes) -> bytes:
    """The keyword-less text of a “Raw profile type” chunk."""
    return (
        b"\n" + kind + b"\n" + str(len(payload)).rjust(8).encode() + b"\n" + payload.hex().encode()
    )


def webp(*chunks: tuple[bytes, bytes], form: bytes = b"VP8X", tail: bytes = b"") -> bytes:
    """A WebP: an extended header of 64 × 48, the picture's own chunk, further chunks."""
    inner = encoded(".webp")[12:]
    head = b"\x2c\x00\x00\x00" + (63).to_bytes(3, "little") + (47).to_bytes(3, "little")
    body = _riff(form, head) + inner if form else inner
    body += b"".join(_riff(kind, data) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body + tail


def _riff(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\x00" * (len(data) % 2)


def tiff(*entries: tuple[int, int, int, bytes], order: str = "<") -> bytes:
    """A TIFF of one directory; values over four bytes stand behind it."""
    head = (b"II*\x00" if order == "<" else b"MM\x00*") + struct.pack(order + "I", 8)
    at = 8 + 2 + 12 * len(entries) + 4
    rows, values = b"", b""
    for tag, kind, count, data in entries:
        field = data.ljust(4, b"\x00")
        if len(data) > 4:
            field = struct.pack(order + "I", at + len(values))
            values += data
        rows += struct.pack(order + "HHI", tag, kind, count) + field
    return head + struct.pack(order + "H", len(entries)) + rows + b"\x00" * 4 + values


def box(kind: bytes, body: bytes, *, large: bool = False) -> bytes:
    """A box, with a 64-bit size if asked for."""
    if large:
        return struct.pack(">I4sQ", 1, kind, 16 + len(body)) + body
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full(kind: bytes, body: bytes, *, version: int = 0, flags: int = 0) -> bytes:
    """A full box: version and flags before the body."""
    return box(kind, struct.pack(">I", version << 24 | flags) + body)


def heic(
    *,
    exif: bytes | None = None,
    xmp: bytes | None = None,
    in_idat: bool = False,
    split: bool = False,
    version: int = 2,
    brand: bytes = b"heic",
    tail: bytes = b"",
) -> bytes:
    """A HEIC with item tables and no picture; the items lie in `idat` or behind `meta`.

    Args:
        exif: TIFF block of the Exif item.
        xmp: packet of the XMP item.
        in_idat: put the items into `idat` (construction method 1).
        split: give each item in two extents.
        version: of `infe`, 2 or 3.
        brand: major brand.
        tail: further boxes or bytes.
    """
    items = [(1, b"hvc1", b"")]
    if exif is not None:
        items.append((2, b"Exif", struct.pack(">I", 0) + exif))
    if xmp is not None:
        items.append((3, b"mime", xmp))
    width = 2 if version == 2 else 4
    infes = b"".join(
        full(
            b"infe",
            number.to_bytes(width, "big")
            + b"\x00\x00"
            + kind
            + (b"\x00application/rdf+xml\x00" if kind == b"mime" else b"\x00"),
            version=version,
        )
        for number, kind, _ in items
    )
    ftyp = box(b"ftyp", brand + b"\x00\x00\x00\x00" + b"mif1" + brand)
    payload = b"".join(data for _, _, data in items)

    def meta(base: int) -> bytes:
        return full(
            b"meta",
            full(b"hdlr", b"\x00" * 4 + b"pict" + b"\x00" * 13)
            + full(b"pitm", b"\x00\x01")
            + full(b"iinf", struct.pack(">H", len(items)) + infes)
            + _iloc(items, 0 if in_idat else base, in_idat=in_idat, split=split)
            + _properties()
            + (box(b"idat", payload) if in_idat else b""),
        )

    base = len(ftyp) + len(meta(0)) + 8
    return ftyp + meta(base) + (b"" if in_idat else box(b"mdat", payload)) + tail


def _iloc(items: list[tuple[int, bytes, bytes]], base: int, *, in_idat: bool, split: bool) -> bytes:
    rows, at = b"", base
    for number, _, data in items:
        cuts = [0, len(data) // 2, len(data)] if split and len(data) > 1 else [0, len(data)]
        extents = b"".join(struct.pack(">II", at + one, two - one) for one, two in pairwise(cuts))
        at += len(data)
        rows += struct.pack(">HHHH", number, int(in_idat), 0, len(cuts) - 1) + extents
    return full(b"iloc", struct.pack(">BBH", 0x44, 0, len(items)) + rows, version=1)


def _properties() -> bytes:
    ispe = full(b"ispe", struct.pack(">II", 64, 48))
    ipma = full(b"ipma", struct.pack(">IHBB", 1, 1, 1, 0x81))
    return box(b"iprp", box(b"ipco", ispe) + ipma)


def mvhd(created_s: int, *, version: int = 0) -> bytes:
    """A movie header that names a creation time."""
    width = 8 if version else 4
    rest = b"\x00" * (100 - 4 - 4)
    return full(b"mvhd", created_s.to_bytes(width, "big") + rest, version=version)


def trak(width: int = 640, height: int = 360, *, version: int = 0) -> bytes:
    """A track with a picture size."""
    fixed = b"\x00" * (84 if version else 72) + struct.pack(">II", width << 16, height << 16)
    return box(b"trak", full(b"tkhd", fixed, version=version))


def atom(kind: bytes, text: bytes) -> bytes:
    """A QuickTime text atom."""
    return box(kind, struct.pack(">HH", len(text), 0x15C7) + text)


def keys(*pairs: tuple[bytes, bytes], quicktime: bool = False) -> bytes:
    """A `meta` box with keys and their values."""
    names = b"".join(box(b"mdta", name) for name, _ in pairs)
    values = b"".join(
        box(number.to_bytes(4, "big"), box(b"data", struct.pack(">II", 1, 0) + value))
        for number, (_, value) in enumerate(pairs, 1)
    )
    inner = (
        full(b"hdlr", b"\x00" * 4 + b"mdta" + b"\x00" * 13)
        + full(b"keys", struct.pack(">I", len(pairs)) + names)
        + box(b"ilst", values)
    )
    return box(b"meta", inner) if quicktime else full(b"meta", inner)


def movie(*boxes: bytes, brand: bytes = b"isom", outer: bytes = b"") -> bytes:
    """An MP4 whose `moov` holds the given boxes."""
    return box(b"ftyp", brand + b"\x00\x00\x02\x00" + brand) + box(b"moov", b"".join(boxes)) + outer
