r"""Walk a JPEG: every segment, in whatever order a camera wrote them.

Does: finds Exif and XMP wherever they stand (Huawei and C2PA write other segments first,
where exifread alone sees nothing), the frame size, C2PA and MPF marks, and the true end of
the image. Steps over junk between segments, as cameras and editors leave it. Refuses to
decode.

    FF D8 | FF E1 len "Exif\0\0" TIFF… | FF C0 len … | FF DA len … scan … | FF D9 | trailing

Source: ITU-T T.81 annex B; CIPA DC-008 (Exif); Adobe XMP part 3; C2PA 2.x §A.3 (APP11).
"""

import re

import numpy as np

from evidence.media.containers.found import Found
from evidence.media.window import Window

# Real files stay under 700 segments: a C2PA store or an extended XMP of 16 MB, cut at 64 KB.
MAX_SEGMENTS = 4096
# Junk longer than this between two segments is no slip of a writer but the end of sense.
MAX_JUNK_BYTES = 64 * 1024
# Editors leave one or two such gaps; a file of nothing but gaps is made to be slow.
MAX_GAPS = 64
# Scan data is searched for its end in steps, and no further into the file than the largest
# image that is decoded here; the worst 128 MiB take a second.
SCAN_STEP_BYTES = 1024 * 1024
MAX_SCAN_BYTES = 128 * 1024 * 1024

_EXIF = (b"Exif\x00\x00", b"Exif\x00\xff")
_XMP = b"http://ns.adobe.com/xap/1.0/\x00"
_XMP_EXTENDED = b"http://ns.adobe.com/xmp/extension/\x00"
_SOI, _EOI, _SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MARKER = re.compile(rb"\xff+[^\x00\xff]")


def walk(window: Window) -> Found:
    """Return what the segments of a JPEG hold.

    Args:
        window: the file, beginning with FF D8.

    Returns:
        The finds; `complete` once the first scan was reached, for metadata stands before it.
    """
    found = Found()
    offset, gaps = 2, 0
    for _ in range(MAX_SEGMENTS):
        marker, offset, junk = _next_marker(window, offset)
        gaps += junk
        if marker is None or gaps > MAX_GAPS:
            break
        if junk:
            found.note("container_damaged")
        if marker == _EOI:
            found.complete = True
            found.end = offset
            return found
        if marker in {_TEM, _SOI} or 0xD0 <= marker <= 0xD7:  # these carry no length
            continue
        length = int.from_bytes(window.peek(offset, 2), "big")
        body = window.cut(offset + 2, max(length - 2, 0))
        if length < 2 or body.size < length - 2:
            _keep(marker, body, found)
            break
        _keep(marker, body, found)
        offset += length
        if marker == _SOS:
            found.complete = True
            offset = _end_of_scan(window, offset)
            if offset >= MAX_SCAN_BYTES:
                found.note("container_unsearched")
                return found
    found.note("container_truncated")  # no end of image was met
    return found


def _next_marker(window: Window, offset: int) -> tuple[int | None, int, bool]:
    """Return the next marker's code, the offset behind it, and whether junk was stepped over."""
    near = window.peek(offset, 4)
    match = _MARKER.match(near)
    if match:
        return near[match.end() - 1], offset + match.end(), False
    near = window.peek(offset, MAX_JUNK_BYTES)
    match = _MARKER.search(near)
    if match is None:
        return None, offset, False
    return near[match.end() - 1], offset + match.end(), True


def _keep(marker: int, body: Window, found: Found) -> None:
    """Note what one segment holds."""
    if marker in _FRAMES:
        head = body.peek(0, 5)
        if len(head) == 5 and found.width_px is None:
            found.height_px = int.from_bytes(head[1:3], "big")
            found.width_px = int.from_bytes(head[3:5], "big")
    elif marker == 0xE1:
        _keep_app1(body, found)
    elif marker == 0xE2 and body.peek(0, 4) == b"MPF\x00":
        found.further_images = True
    elif marker == 0xEB and body.peek(0, 2) == b"JP" and body.peek(24, 4) == b"c2pa":
        found.c2pa = True  # the JUMBF description box of a manifest store names its kind there


def _keep_app1(body: Window, found: Found) -> None:
    head = body.peek(0, len(_XMP_EXTENDED))
    if head[:6] in _EXIF:
        found.add_exif(body.cut(6, body.size))
    elif head.startswith(b"Exif"):
        found.exif_marked += 1
    elif head.startswith(_XMP):
        found.add_xmp(body.cut(len(_XMP), body.size))
    elif head == _XMP_EXTENDED:
        found.xmp_extended = True


def _end_of_scan(window: Window, offset: int) -> int:
    """Return the offset of the first marker behind scan data, or where the search ended.

    In scan data FF is followed by 00, by a restart marker, or by FF as filling.
    """
    while offset < min(window.size, MAX_SCAN_BYTES):
        data = np.frombuffer(window.peek(offset, SCAN_STEP_BYTES + 1), np.uint8)
        marks = np.flatnonzero(data[:-1] == 0xFF)
        codes = data[marks + 1]
        others = (codes != 0x00) & (codes != 0xFF) & ((codes < 0xD0) | (codes > 0xD7))
        if others.any():
            return offset + int(marks[others.argmax()])
        offset += max(len(data) - 1, 1)
    return offset
