"""Walk a WebP: RIFF chunks with Exif, XMP and C2PA in chunks of their own.

Does: finds `EXIF`, `XMP ` and `C2PA` chunks whether or not the VP8X flags announce them, and
the canvas size of the three forms. Refuses to decode.

    "RIFF" size "WEBP" | "VP8X" 10 flags … | "VP8 " … | "EXIF" size TIFF… | "XMP " …

Source: RFC 9649 §2.
"""

from evidence.media.containers.found import Found
from evidence.media.window import Window

# A long animation has some thousand frames; each is one chunk on this level.
MAX_CHUNKS = 65_536


def walk(window: Window) -> Found:
    """Return what the chunks of a WebP hold.

    Args:
        window: the file, beginning with RIFF….WEBP.

    Returns:
        The finds; `complete` once the end that RIFF names was reached.
    """
    found = Found()
    end = 8 + int.from_bytes(window.take(4, 4), "little")
    end += end & 1
    if end > window.size + 1:
        found.note("container_truncated")
    offset = 12
    for _ in range(MAX_CHUNKS):
        head = window.peek(offset, 8)
        if len(head) < 8 or offset + 8 > end:
            break
        size = int.from_bytes(head[4:], "little")
        body = window.cut(offset + 8, size)
        _keep(head[:4], body, found)
        offset += 8 + size + (size & 1)
    else:
        found.note("container_damaged")
        return found
    if offset > window.size + 1:
        found.note("container_truncated")
    if not found.notes:
        found.complete = True
        found.end = min(end, window.size)
    return found


def _keep(kind: bytes, body: Window, found: Found) -> None:
    """Note what one chunk holds."""
    if kind == b"EXIF":
        skip = 6 if body.peek(0, 6) == b"Exif\x00\x00" else 0
        found.add_exif(body.cut(skip, body.size))
    elif kind in {b"XMP ", b"XMP\x00"}:  # the second is a slip that some editors make
        found.add_xmp(body)
    elif kind == b"C2PA":
        found.c2pa = True
    elif found.width_px is None:
        _keep_size(kind, body.peek(0, 10), found)


def _keep_size(kind: bytes, head: bytes, found: Found) -> None:
    """Read the canvas size of an extended, lossy or lossless image."""
    if len(head) < 10:
        return
    if kind == b"VP8X":
        found.width_px = 1 + int.from_bytes(head[4:7], "little")
        found.height_px = 1 + int.from_bytes(head[7:10], "little")
    elif kind == b"VP8 " and head[3:6] == b"\x9d\x01\x2a":
        found.width_px = int.from_bytes(head[6:8], "little") & 0x3FFF
        found.height_px = int.from_bytes(head[8:10], "little") & 0x3FFF
    elif kind == b"VP8L" and head[0] == 0x2F:
        bits = int.from_bytes(head[1:5], "little")
        found.width_px = 1 + (bits & 0x3FFF)
        found.height_px = 1 + (bits >> 14 & 0x3FFF)
