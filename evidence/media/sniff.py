r"""What the bytes are, whatever their name says.

Does: names the media type from the first bytes, and gives hints that the same bytes can also
be read as something else (markup, a ZIP, a PDF). Refuses to believe the announced type or a
file name, and to look inside what it names.

    sniff(b"\xff\xd8\xff\xe1…") == "image/jpeg"

Source: WHATWG MIME Sniffing §6-7; the formats' own specifications.
"""

import re

from evidence.media.containers.png import SIGNATURE
from evidence.media.window import Window

# Long enough for any signature and for a byte-order mark with leading blanks and comments.
HEAD_BYTES = 4096
# The end record of a ZIP with its longest comment.
TAIL_BYTES = 65_557

_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"})
_HEIF = frozenset({b"mif1", b"msf1", b"mif2"})
_AVIF = frozenset({b"avif", b"avis"})
_MOVIE = {b"qt  ": "video/quicktime", b"3gp": "video/3gpp", b"3g2": "video/3gpp2"}
_OLD_MOVIE = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
_MAGIC = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (SIGNATURE, "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "image/jxl"),
    (b"8BPS", "image/vnd.adobe.photoshop"),
    (b"BM", "image/bmp"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"\x1aE\xdf\xa3", "video/x-matroska"),
)
# Atomic groups throughout: a row of comments must not make the search try every partition.
_PROLOGUE = (
    rb"\A(?:\xef\xbb\xbf)?\s*+"
    rb"(?:(?><\?xml[^>]{0,500}+>|<!--.{0,2000}?-->|<!DOCTYPE(?!\s+html)[^>]{0,500}+>)\s*+)*+"
)
_HTML_TAGS = (
    rb"!doctype\s+html|html|head|body|script|iframe|title|h1|div|a|p|b|table|img|style|br|meta"
)
_SVG = re.compile(_PROLOGUE + rb"<svg[\s>]", re.DOTALL | re.IGNORECASE)
_HTML = re.compile(_PROLOGUE + rb"<(?:" + _HTML_TAGS + rb")[\s>]", re.DOTALL | re.IGNORECASE)
_XML = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*<\?xml\s", re.IGNORECASE)
_ACTIVE = re.compile(rb"<script[\s>]|<svg[\s>]|<html[\s>]|<iframe[\s>]|javascript:", re.IGNORECASE)

UNKNOWN = "application/octet-stream"
# The one difference that is none: DNG is a TIFF, an animated PNG a PNG, and so on.
_SAME = {
    "application/vnd.adobe.photoshop": "image/vnd.adobe.photoshop",
    "image/x-photoshop": "image/vnd.adobe.photoshop",
    "image/x-adobe-dng": "image/tiff",
    "image/dng": "image/tiff",
    "image/apng": "image/png",
    "image/jpg": "image/jpeg",
    "image/mpo": "image/jpeg",
    "image/heif": "image/heic",
    "audio/mp4": "video/mp4",
    "video/3gpp2": "video/3gpp",
}


def sniff(head: bytes) -> str:
    """Return the media type that the first bytes show, or `application/octet-stream`.

    Args:
        head: the first HEAD_BYTES bytes of the file, or all of a shorter one.
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp":
        return _by_brand(head)
    for magic, media_type in _MAGIC:
        if head.startswith(magic):
            return media_type
    if head[4:8] in _OLD_MOVIE:
        return "video/quicktime"
    return _by_markup(head)


def same_type(announced: str, sniffed: str) -> bool:
    """Say whether two media types name one format, parameters and case aside."""
    names = [name.split(";", 1)[0].strip().lower() for name in (announced, sniffed)]
    return _SAME.get(names[0], names[0]) == _SAME.get(names[1], names[1])


def is_active(media_type: str) -> bool:
    """Say whether a browser would run what is of this type."""
    return media_type in {"image/svg+xml", "text/html", "application/xml"}


def other_readings(window: Window, media_type: str, end: int | None) -> tuple[bool, bool]:
    """Look for a second format in the same bytes.

    Args:
        window: the whole file.
        media_type: what `sniff` named.
        end: offset behind the last byte of the format, or None if unknown.

    Returns:
        Whether the file holds active markup before or behind its image, and whether it also
        reads as a ZIP, a PDF or a program.
    """
    head = window.peek(0, HEAD_BYTES)
    tail = window.peek(max(window.size - TAIL_BYTES, 0), TAIL_BYTES)
    after = window.peek(end, HEAD_BYTES) if end is not None else b""
    active = bool(_ACTIVE.search(head) or _ACTIVE.search(after)) or is_active(media_type)
    other = (
        (b"PK\x05\x06" in tail and media_type != "application/zip")
        or (b"%PDF-" in head[:1024] and media_type != "application/pdf")
        or after.startswith((b"PK\x03\x04", b"%PDF-", b"\x7fELF", b"MZ", b"Rar!", b"7z\xbc\xaf"))
    )
    return active, other


def _by_brand(head: bytes) -> str:
    """Name a file of the ISO base media family by its major and compatible brands."""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))]
    for brand in brands:
        if brand in _AVIF:
            return "image/avif"
        if brand in _HEIC:
            return "image/heic"
        for prefix, media_type in _MOVIE.items():
            if brand.startswith(prefix):
                return media_type
        if brand[:3] in {b"mp4", b"iso", b"avc", b"M4V", b"M4A", b"das", b"dby", b"MSN"}:
            return "video/mp4"
    return "image/heif" if any(brand in _HEIF for brand in brands) else "video/mp4"


def _by_markup(head: bytes) -> str:
    """Name markup and text; SVG and HTML matter because browsers run them."""
    if _SVG.match(head):
        return "image/svg+xml"
    if _HTML.match(head):
        return "text/html"
    if _XML.match(head):
        return "application/xml"
    readable = head and not re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", head)
    return "text/plain" if readable else UNKNOWN
