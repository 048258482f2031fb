"""Inspect one file: from bytes to facts, in three steps of growing risk.

Does, in this order, so that a reader that dies later cannot take earlier facts with it:

1. walk the container and read Exif, XMP and the film header (our own code and exifread);
2. check a C2PA manifest, if the walk has seen one;
3. decode the picture and measure it.

Refuses: to open anything (a stream is handed in), to believe the announced type, and to call
metadata absent where the walk did not get far enough to know.

    facts = inspect(stream, size_bytes, "image/jpeg")
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import BinaryIO

from evidence.errors import EvidenceError
from evidence.media import image
from evidence.media.containers import heif, jpeg, movie, photoshop, png, tiff, webp
from evidence.media.containers.found import Found
from evidence.media.facts import MediaFacts
from evidence.media.findings import Finding
from evidence.media.foreign import guarded
from evidence.media.provenance import read_c2pa
from evidence.media.reading import first_exif, is_pending, read_metadata
from evidence.media.sniff import HEAD_BYTES, same_type, sniff
from evidence.media.text import clean
from evidence.media.window import Window

_WALKERS: dict[str, Callable[[Window], Found]] = {
    "image/jpeg": jpeg.walk,
    "image/png": png.walk,
    "image/webp": webp.walk,
    "image/tiff": tiff.walk,
    "image/vnd.adobe.photoshop": photoshop.walk,
    "image/heic": heif.walk,
    "image/heif": heif.walk,
    "image/avif": heif.walk,
    "video/mp4": movie.walk,
    "video/quicktime": movie.walk,
    "video/3gpp": movie.walk,
    "video/3gpp2": movie.walk,
}


def inspect(
    stream: BinaryIO, size_bytes: int, announced_media_type: str, *, trust_anchors: str = ""
) -> MediaFacts:
    """Return the facts of one file.

    Args:
        stream: the file, seekable and readable; its position is not kept.
        size_bytes: its announced length.
        announced_media_type: what the sender called it.
        trust_anchors: PEM certificates whose C2PA signers count as trusted.

    Returns:
        Facts and findings; hostile bytes make findings, never exceptions.
    """
    steps = list(
        inspect_steps(stream, size_bytes, announced_media_type, trust_anchors=trust_anchors)
    )
    return steps[-1]


def inspect_steps(
    stream: BinaryIO, size_bytes: int, announced_media_type: str, *, trust_anchors: str = ""
) -> Iterator[MediaFacts]:
    """Yield the facts after each step of the module's procedure; the last ones are whole.

    Facets that a later step fills in say `present_unreadable` and `inspection_cut_short`
    until then: if the process dies in between, that is the truth.
    """
    window = Window.over(stream, stream.seek(0, 2))
    head = window.peek(0, HEAD_BYTES)
    media_type = sniff(head)
    own = _own_findings(window, size_bytes, announced_media_type, media_type)
    try:
        found = _walk(window, media_type)
        failed = False
    except EvidenceError:
        found, failed = None, True
    # 1. container, Exif, XMP, film header
    facts = read_metadata(window, media_type, found, failed=failed)
    facts = replace(
        facts,
        size_bytes=size_bytes,
        announced_media_type=clean(announced_media_type),
        own_findings=own,
    )
    yield facts
    # 2. C2PA
    if is_pending(facts.c2pa):
        manifest = read_c2pa(stream, media_type, window.size, trust_anchors=trust_anchors)
        facts = replace(facts, c2pa=manifest)
    yield facts
    # 3. picture
    if found is not None and is_pending(facts.image):
        size = (found.width_px or 0, found.height_px or 0)
        data = window.peek(0, window.size)
        facts = replace(facts, image=image.check_image(data, *size))
    yield facts


def preview(stream: BinaryIO) -> bytes | Finding:
    """Make a JPEG of at most 1,600 pixels that carries nothing of the file but its pixels.

    Args:
        stream: the file, seekable and readable.

    Returns:
        The JPEG, or the finding that says why there is none.
    """
    window = Window.over(stream, stream.seek(0, 2))
    media_type = sniff(window.peek(0, HEAD_BYTES))
    try:
        found = _walk(window, media_type)
        if found is None:
            return Finding(code="format_unsupported", facet="image")
        refused = image.refusal(media_type, window.size, found.width_px, found.height_px)
        if refused is not None:
            unsupported = Finding(code="format_unsupported", facet="image")
            return refused.findings[0] if refused.findings else unsupported
        orientation = first_exif(found).orientation
        size = (found.width_px or 0, found.height_px or 0)
        return image.make_preview(window.peek(0, window.size), *size, orientation)
    except EvidenceError:
        return Finding(code="image_undecodable", facet="image")


def _own_findings(
    window: Window, size_bytes: int, announced: str, media_type: str
) -> tuple[Finding, ...]:
    """Compare the bytes with what was announced."""
    codes = (
        ("empty_file", not window.size),
        ("size_differs", window.size != size_bytes),
        ("media_type_differs", bool(window.size) and not same_type(announced, media_type)),
    )
    return tuple(Finding(code=code) for code, there in codes if there)


def _walk(window: Window, media_type: str) -> Found | None:
    """Walk the container, or return None where there is no walker for it.

    Raises:
        MediaInvalid: the structure is beyond walking.
    """
    walker = _WALKERS.get(media_type)
    return None if walker is None else guarded("walker", lambda: walker(window))
