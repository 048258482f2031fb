"""Step 1 of an inspection: from what a walker found to the facts of each facet.

Does: reads the Exif blocks, XMP packets and film header that were found, chooses the
position that counts, and marks what later steps will fill in. Refuses to call a facet
absent where the walk did not get far enough to know: then it says `metadata_unfinished`.

    facts = read_metadata(window, "image/jpeg", found, failed=False)
"""

from dataclasses import replace
from typing import TypeVar

from evidence.errors import MediaInvalid, TooLarge
from evidence.media import image, xmp
from evidence.media.containers.found import Found
from evidence.media.exif import ExifFacts, read_exif
from evidence.media.facts import ContainerFacts, LocationFacts, MediaFacts, unique
from evidence.media.findings import Finding, State
from evidence.media.image import ImageFacts
from evidence.media.position import Position
from evidence.media.provenance import C2paFacts
from evidence.media.sniff import other_readings
from evidence.media.video import VideoFacts, read_video
from evidence.media.window import Window
from evidence.media.xmp import XmpFacts

# Two sources that agree differ by their rounding only: XMP and ISO 6709 keep at least a
# ten-thousandth of a degree, some eleven metres.
SAME_PLACE_E7 = 10_000

_Facts = TypeVar("_Facts", ExifFacts, XmpFacts, VideoFacts, C2paFacts, ImageFacts)


def read_metadata(
    window: Window, media_type: str, found: Found | None, *, failed: bool
) -> MediaFacts:
    """Return the facts of step 1.

    Args:
        window: the whole file.
        media_type: what `sniff` named.
        found: what the walker found, or None where none ran or it failed.
        failed: there is a walker for the type, but the structure is beyond walking.

    Returns:
        Facts without the announcement; a format without a walker is unsupported, never absent.
    """
    if found is None:
        state = State.PRESENT_UNREADABLE if failed else State.UNSUPPORTED
        return _without_walk(window, media_type, State.ABSENT if not window.size else state)
    exif, packets, film = first_exif(found), _xmp(found), _video(found)
    marked = found.c2pa or packets.provenance is not None
    return MediaFacts(
        size_bytes=window.size,
        announced_media_type="",
        sniffed_media_type=media_type,
        container=_container(window, media_type, found),
        exif=exif,
        xmp=packets,
        location=_location(exif, packets, film),
        video=film,
        c2pa=_pending(C2paFacts, "c2pa") if marked else _unmarked(C2paFacts, "c2pa", found),
        image=image.refusal(media_type, window.size, found.width_px, found.height_px)
        or _pending(ImageFacts, "image"),
    )


def _without_walk(window: Window, media_type: str, state: State) -> MediaFacts:
    """Return the same state for every facet, and why."""
    codes = {
        State.UNSUPPORTED: "format_unsupported",
        State.PRESENT_UNREADABLE: "container_unreadable",
    }
    notes = [Finding(code=codes[state], facet="container")] if state in codes else []
    return MediaFacts(
        size_bytes=window.size,
        announced_media_type="",
        sniffed_media_type=media_type,
        container=ContainerFacts(state=state, findings=(*notes, *_hints(window, media_type, None))),
        exif=ExifFacts(state=state),
        xmp=XmpFacts(state=state),
        location=LocationFacts(state=state),
        video=VideoFacts(state=state),
        c2pa=C2paFacts(state=state),
        image=ImageFacts(state=state),
    )


def _hints(window: Window, media_type: str, end: int | None) -> list[Finding]:
    active, other = other_readings(window, media_type, end)
    codes = (("active_content", active), ("polyglot", other))
    return [Finding(code=code, facet="container") for code, there in codes if there]


def _container(window: Window, media_type: str, found: Found) -> ContainerFacts:
    """Describe the structure, and what lies behind its end."""
    trailing = window.size - found.end if found.end is not None else 0
    notes = [*found.notes, *_hints(window, media_type, found.end)]
    if trailing:
        notes.append(Finding(code="trailing_bytes", facet="container"))
    return ContainerFacts(
        state=State.READ,
        width_px=found.width_px,
        height_px=found.height_px,
        trailing_bytes=trailing or None,
        exif_blocks=found.exif_marked or None,
        xmp_packets=found.xmp_marked or None,
        further_images="announced" if found.further_images else None,
        findings=tuple(notes),
    )


def _pending(kind: type[_Facts], facet: str) -> _Facts:
    """Return a facet that a later step will fill in."""
    finding = Finding(code="inspection_cut_short", facet=facet)
    return kind(state=State.PRESENT_UNREADABLE, findings=(finding,))


def is_pending(facts: C2paFacts | ImageFacts) -> bool:
    """Say whether a facet still waits for its step."""
    return any(finding.code == "inspection_cut_short" for finding in facts.findings)


def _unmarked(kind: type[_Facts], facet: str, found: Found) -> _Facts:
    """Return `absent` if the walk got far enough to say so, else why it did not."""
    if found.complete:
        return kind(state=State.ABSENT)
    finding = Finding(code="metadata_unfinished", facet=facet)
    return kind(state=State.PRESENT_UNREADABLE, findings=(finding,))


def first_exif(found: Found) -> ExifFacts:
    """Read the first Exif block that can be read."""
    if not found.exif_marked:
        return _unmarked(ExifFacts, "exif", found)
    several = [Finding(code="exif_several", facet="exif")] if found.exif_marked > 1 else []
    detail = "The Exif block lies outside the file or is too large."
    for block in found.exif:
        try:
            facts = read_exif(block)
        except MediaInvalid as error:
            detail = error.detail
            continue
        except TooLarge as error:  # the next block would cost as much time again
            detail = error.detail
            break
        return replace(facts, findings=(*several, *facts.findings))
    finding = Finding(code="exif_unreadable", facet="exif", detail=detail)
    return ExifFacts(state=State.PRESENT_UNREADABLE, findings=(*several, finding))


def _xmp(found: Found) -> XmpFacts:
    """Read all XMP packets; of a property that stands in several, the first counts."""
    notes = [Finding(code="xmp_extended", facet="xmp")] if found.xmp_extended else []
    if not found.xmp_marked:
        facts = _unmarked(XmpFacts, "xmp", found)
        return replace(facts, findings=(*notes, *facts.findings))
    if found.xmp_marked > 1:
        notes.append(Finding(code="xmp_several", facet="xmp"))
    properties: dict[str, str] = {}
    unread = found.xmp_marked
    for packet in found.xmp:
        try:
            properties = {**xmp.read_properties(packet), **properties}
        except MediaInvalid:
            continue
        unread -= 1
    if unread:
        notes.append(Finding(code="xmp_unreadable", facet="xmp"))
    if unread == found.xmp_marked:
        return XmpFacts(state=State.PRESENT_UNREADABLE, findings=tuple(notes))
    facts = xmp.facts_of(properties)
    return replace(facts, findings=(*notes, *facts.findings))


def _video(found: Found) -> VideoFacts:
    if found.movie is None:
        return _unmarked(VideoFacts, "video", found)
    return read_video(found.movie)


def _location(exif: ExifFacts, packets: XmpFacts, film: VideoFacts) -> LocationFacts:
    """Choose the position that counts: Exif before XMP before the film header."""
    sources = (("exif", exif), ("xmp", packets), ("video", film))
    places = [(name, facts.position) for name, facts in sources if facts.position]
    notes = [
        Finding(code="location_unreadable", facet="location", detail=finding.detail)
        for _, facts in sources
        for finding in facts.findings
        if finding.code == "location_unreadable"
    ]
    if not places:
        states = {facts.state for _, facts in sources}
        unread = bool(notes) or State.PRESENT_UNREADABLE in states
        return LocationFacts(
            state=State.PRESENT_UNREADABLE if unread else State.ABSENT, findings=unique(notes)
        )
    source, place = places[0]
    if place.is_zero:
        notes.append(Finding(code="location_zero", facet="location"))
    if any(_apart(place, other) for _, other in places[1:]):
        notes.append(Finding(code="location_sources_differ", facet="location"))
    return LocationFacts(
        state=State.READ,
        lat_e7=place.lat_e7,
        lon_e7=place.lon_e7,
        altitude_mm=place.altitude_mm,
        source=source,
        findings=unique(notes),
    )


def _apart(one: Position, other: Position) -> bool:
    return max(abs(one.lat_e7 - other.lat_e7), abs(one.lon_e7 - other.lon_e7)) > SAME_PLACE_E7
