"""Walk a PNG: its chunks, and the text chunks in which tools hide Exif and XMP.

Does: finds `eXIf`, `caBX` (C2PA), XMP in `iTXt`, and the older “Raw profile type” texts of
ImageMagick in `tEXt`, `zTXt` and `iTXt`; inflates them within a limit. Refuses to inflate
more, and to look at image data.

    89 50 4E 47 0D 0A 1A 0A | length type data crc | … | 0 IEND crc | trailing

Source: PNG 3rd edition §5, §11.3; ExifTool's and ImageMagick's “Raw profile type” form.
"""

import re
import zlib

from evidence.media.containers.found import MAX_XMP_BYTES, Found
from evidence.media.window import Window

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# An animated PNG of a minute has a few thousand frames; each is one or two chunks.
MAX_CHUNKS = 65_536
# A text chunk longer than this is no metadata; packed ones grow at most to MAX_XMP_BYTES.
MAX_TEXT_BYTES = MAX_XMP_BYTES

_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_TYPE = re.compile(rb"[A-Za-z]{4}")
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_RAW_PROFILE = re.compile(rb"Raw profile type (exif|APP1|xmp)", re.IGNORECASE)
_PROFILE = re.compile(rb"\s*[A-Za-z0-9 ]{1,32}\s+\d{1,10}\s+([0-9A-Fa-f\s]*)\Z")


def walk(window: Window) -> Found:
    """Return what the chunks of a PNG hold.

    Args:
        window: the file, beginning with the PNG signature.

    Returns:
        The finds; `complete` once IEND was reached, for metadata may stand behind the image.
    """
    found = Found()
    offset = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        head = window.peek(offset, 8)
        if len(head) < 8:
            found.note("container_truncated")
            return found
        size, kind = int.from_bytes(head[:4], "big"), head[4:]
        if not _TYPE.fullmatch(kind):
            found.note("container_damaged")
            return found
        body = window.cut(offset + 8, size)
        _keep(kind, body, found)
        offset += 12 + size
        if kind == b"IEND":
            found.complete = True
            found.end = min(offset, window.size)
            return found
        if body.size < size:
            found.note("container_truncated")
            return found
    found.note("container_damaged")
    return found


def _keep(kind: bytes, body: Window, found: Found) -> None:
    """Note what one chunk holds."""
    if kind == b"IHDR" and found.width_px is None and body.size >= 8:
        found.width_px = int.from_bytes(body.take(0, 4), "big")
        found.height_px = int.from_bytes(body.take(4, 4), "big")
    elif kind == b"eXIf":
        skip = 6 if body.peek(0, 6) == b"Exif\x00\x00" else 0
        found.add_exif(body.cut(skip, body.size))
    elif kind == b"caBX":
        found.c2pa = True
    elif kind in _TEXTS:
        _keep_text(kind, body, found)


def _keep_text(kind: bytes, body: Window, found: Found) -> None:
    keyword, separator, _ = body.peek(0, 80).partition(b"\x00")
    profile = _RAW_PROFILE.fullmatch(keyword)
    if not separator or not (profile or keyword == _XMP_KEYWORD):
        return
    text = _text_of(kind, body.cut(len(keyword) + 1, body.size))
    if profile:
        _keep_profile(profile[1].lower(), text, found)
    else:
        _keep_xmp(text, found)


def _text_of(kind: bytes, rest: Window) -> bytes | None:
    """Return the text behind the keyword, inflated where it is packed; None if unreadable."""
    if rest.size > MAX_TEXT_BYTES:
        return None
    data = rest.peek(0, rest.size)
    packed = kind == b"zTXt"
    if kind == b"iTXt":
        packed = data[:1] == b"\x01"
        parts = data[2:].split(b"\x00", 2)  # language, translated keyword, text
        if len(parts) < 3:
            return None
        data = parts[2]
    elif packed:
        data = data[1:]
    return _inflate(data) if packed else data


def _inflate(data: bytes) -> bytes | None:
    """Inflate at most MAX_XMP_BYTES. Threat: a few KB that unpack to gigabytes."""
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(data, MAX_XMP_BYTES)
    except zlib.error:
        return None
    return None if unpacker.unconsumed_tail else text


def _keep_xmp(text: bytes | None, found: Found) -> None:
    if text is None:
        found.xmp_marked += 1
    else:
        found.add_xmp(Window.of(text))


def _keep_profile(kind: bytes, text: bytes | None, found: Found) -> None:
    """Read the form of three lines (name, length, hexadecimal digits) and keep what it holds."""
    match = _PROFILE.match(text) if text is not None else None
    digits = b"".join(match[1].split()) if match else b""
    data = bytes.fromhex(digits[: len(digits) // 2 * 2].decode("ascii"))
    xmp_mark = b"http://ns.adobe.com/xap/1.0/\x00"
    if kind == b"xmp" or data.startswith(xmp_mark):
        _keep_xmp(data.removeprefix(xmp_mark) if data else None, found)
    elif data:
        found.add_exif(Window.of(data.removeprefix(b"Exif\x00\x00")))
    else:
        found.exif_marked += 1
