"""Walk a TIFF: the first directory, and whether it carries camera metadata.

Does: reads IFD0 within limits: image size, XMP (tag 700), C2PA (tag 52545), and whether any
camera tag or the pointers to the Exif and GPS directories are there. The same walk serves a
bare Exif block, which is a TIFF. Refuses to follow further pages, strips or sub-images.

    "II" 2A 00 offset | count | tag type count value (12 bytes each) | next

Source: TIFF 6.0 §2; CIPA DC-008 §4.6; Adobe XMP part 3 §3; C2PA 2.x §A.3.
"""

import struct
from dataclasses import dataclass

from evidence.media.containers.found import Found
from evidence.media.window import Window

HEADERS = (b"II*\x00", b"MM\x00*")
# A directory of a real file has some 60 entries, of a DNG some 150.
MAX_ENTRIES = 1024

_WIDTH, _HEIGHT, _XMP, _C2PA, _EXIF_IFD, _GPS_IFD = 256, 257, 700, 52545, 34665, 34853
# ImageDescription, Make, Model, Orientation, Software, DateTime, Artist, HostComputer.
_CAMERA = frozenset({270, 271, 272, 274, 305, 306, 315, 316, _EXIF_IFD, _GPS_IFD})
_TYPE_SIZES: tuple[int, ...] = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One directory entry.

    Attributes:
        tag: number of the tag.
        count: number of values.
        offset: where the values begin, from the TIFF header.
        size: length of the values, bytes; 0 for an unknown type.
        number: the value as an unsigned integer if it is one SHORT or LONG, else None.
    """

    tag: int
    count: int
    offset: int
    size: int
    number: int | None


def is_block(window: Window) -> bool:
    """Say whether a window begins with a TIFF header."""
    return window.peek(0, 4) in HEADERS


def first_directory(window: Window) -> list[Entry]:
    """Return the entries of IFD0.

    Args:
        window: a TIFF file or a bare Exif block.

    Raises:
        MediaInvalid: there is no TIFF header, or the directory lies outside.
    """
    order = "<" if window.take(0, 4) == HEADERS[0] else ">"
    (start,) = struct.unpack(order + "I", window.take(4, 4))
    (count,) = struct.unpack(order + "H", window.take(start, 2))
    count = min(count, MAX_ENTRIES)
    raw = window.peek(start + 2, 12 * count)
    rows = (raw[at : at + 12] for at in range(0, len(raw) - 11, 12))
    return [_entry(order, row, start + 2 + 12 * index) for index, row in enumerate(rows)]


def _entry(order: str, row: bytes, at: int) -> Entry:
    parts: tuple[int, int, int, int] = struct.unpack(order + "HHII", row)
    tag, kind, count, pointer = parts
    size = count * (_TYPE_SIZES[kind] if kind < len(_TYPE_SIZES) else 0)
    number = None
    if count == 1 and kind in {3, 4}:
        (number,) = struct.unpack(order + ("H" if kind == 3 else "I"), row[8 : 8 + size])
    return Entry(
        tag=tag, count=count, offset=at + 8 if size <= 4 else pointer, size=size, number=number
    )


def walk(window: Window) -> Found:
    """Return what the first directory of a TIFF file holds.

    Args:
        window: the file, beginning with a TIFF header.

    Returns:
        The finds; the whole file is the Exif block if a camera tag is there.

    Raises:
        MediaInvalid: the first directory lies outside the file.
    """
    found = Found()
    entries = first_directory(window)
    for entry in entries:
        if entry.tag == _WIDTH:
            found.width_px = entry.number
        elif entry.tag == _HEIGHT:
            found.height_px = entry.number
        elif entry.tag == _XMP and entry.size:
            found.add_xmp(window.cut(entry.offset, entry.size))
        elif entry.tag == _C2PA:
            found.c2pa = True
    if any(entry.tag in _CAMERA for entry in entries):
        found.exif_marked = 1
        found.exif.append(window)  # not bounded by size: it is read where it lies
    found.complete = True
    return found
