"""The facts of one file, in the form that is kept as evidence.

Does: gathers what each reader found and writes it as canonical JSON: integers and strings
only, so that every verifier reads the same numbers. Refuses floats, empty members, and more
findings than an `inspected` statement can carry.

    {"announced_media_type":"image/jpeg","exif":{"make":"Huawei","state":"read"},…}
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, cast

from evidence.canonical import canonicalise
from evidence.media.exif import ExifFacts
from evidence.media.findings import Finding, State
from evidence.media.image import ImageFacts
from evidence.media.provenance import C2paFacts
from evidence.media.video import VideoFacts
from evidence.media.xmp import XmpFacts

FORMAT = "fengni/media-facts/v1"
# Facts are small by construction: some 60 members of at most 256 characters.
MAX_JSON_BYTES = 64 * 1024
MAX_FINDINGS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerFacts:
    """What the structure of the file is.

    Attributes:
        state: absent (no bytes), read, present_unreadable or unsupported.
        width_px: from the header, before any rotation.
        height_px: from the header.
        trailing_bytes: bytes behind the end that the format names.
        exif_blocks: number of Exif marks met.
        xmp_packets: number of XMP marks met.
        further_images: `announced` if a Multi-Picture index names more images.
        findings: damage, and what else lies in the file.
    """

    state: State
    width_px: int | None = None
    height_px: int | None = None
    trailing_bytes: int | None = None
    exif_blocks: int | None = None
    xmp_packets: int | None = None
    further_images: str | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LocationFacts:
    """Where the file says that it was made, from the first source that says so.

    Attributes:
        state: absent, read, present_unreadable or unsupported.
        lat_e7: latitude, 10^-7 degrees.
        lon_e7: longitude, 10^-7 degrees.
        altitude_mm: above sea level, millimetres.
        source: `exif`, `xmp` or `video`, in this order of precedence.
        findings: zero positions, and sources that differ.
    """

    state: State
    lat_e7: int | None = None
    lon_e7: int | None = None
    altitude_mm: int | None = None
    source: str | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFacts:
    """Everything that was read from one file.

    Attributes:
        size_bytes: length as announced to the inspection.
        announced_media_type: what the sender called it.
        sniffed_media_type: what its bytes show.
        container: structure.
        exif: camera, clock, place.
        xmp: camera, place, attitude of a drone.
        location: the position that counts, and its source.
        video: film header.
        c2pa: manifest and its validity.
        image: measures of the picture.
        own_findings: findings about the whole file.
    """

    size_bytes: int
    announced_media_type: str
    sniffed_media_type: str
    container: ContainerFacts
    exif: ExifFacts
    xmp: XmpFacts
    location: LocationFacts
    video: VideoFacts
    c2pa: C2paFacts
    image: ImageFacts
    own_findings: tuple[Finding, ...] = ()

    @property
    def states(self) -> dict[str, State]:
        """State of each facet, by its name."""
        return {
            "container": self.container.state,
            "exif": self.exif.state,
            "xmp": self.xmp.state,
            "location": self.location.state,
            "video": self.video.state,
            "c2pa": self.c2pa.state,
            "image": self.image.state,
        }

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, each (code, facet) once, in the order of the facets."""
        parts = (
            self.own_findings, self.container.findings, self.exif.findings, self.xmp.findings,
            self.location.findings, self.video.findings, self.c2pa.findings, self.image.findings,
        )  # fmt: skip
        return unique(finding for part in parts for finding in part)

    def to_json(self) -> bytes:
        """Return the facts as canonical JSON; members without a value are left out."""
        document = {
            "announced_media_type": self.announced_media_type,
            "c2pa": _members(self.c2pa),
            "container": _members(self.container),
            "exif": _members(self.exif),
            "findings": [finding.to_json() for finding in self.findings],
            "format": FORMAT,
            "image": _members(self.image),
            "location": _members(self.location),
            "size_bytes": self.size_bytes,
            "sniffed_media_type": self.sniffed_media_type,
            "video": _members(self.video),
            "xmp": _members(self.xmp),
        }
        return canonicalise(document, max_bytes=MAX_JSON_BYTES)


def unique(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings with each (code, facet) once, at most MAX_FINDINGS."""
    first: dict[tuple[str, str], Finding] = {}
    for finding in findings:
        first.setdefault((finding.code, finding.facet), finding)
    return tuple(first.values())[:MAX_FINDINGS]


def _members(facts: Any) -> dict[str, object]:  # noqa: ANN401  any of the facet classes
    """Return the members of a facet that have a value, findings aside."""
    members: dict[str, object] = {}
    for field in fields(facts):
        value = getattr(facts, field.name)
        if field.name == "findings" or value is None or value == ():
            continue
        listed = isinstance(value, tuple)
        members[field.name] = list(cast("tuple[object, ...]", value)) if listed else value
    return members
