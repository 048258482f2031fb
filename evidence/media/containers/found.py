"""What a walk through a container brings back.

Does: holds the Exif blocks, XMP packets and marks that a walker met, as windows and bytes.
Refuses to interpret them: that is the business of `exif`, `xmp`, `video` and `provenance`.
"""

from dataclasses import dataclass, field

from evidence.media.findings import Finding
from evidence.media.window import Window

# A camera writes one block and one packet; a few more come from editors. Beyond this many,
# the file was made to keep us busy.
MAX_BLOCKS = 8
# The largest Exif block that a segment or item of a real file holds is some 200 KB (with
# thumbnail and maker note); HEIC items are bounded by nothing else.
MAX_EXIF_BYTES = 8 * 1024 * 1024
# XMP with an embedded depth map or thumbnail reaches a few MB; all packets together are read
# up to here.
MAX_XMP_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class MovieHeader:
    """What a film's header says, as found.

    Attributes:
        created_s: creation time of `mvhd`, seconds since 1904-01-01, or None.
        iso6709: ISO 6709 texts in order of precedence: Keys, `©xyz`.
        loci: latitude, longitude, altitude of a 3GPP `loci` box as 16.16 integers.
        texts: name (`make`, `model`, `software`, `creationdate`) to bytes as found.
        damaged: a box inside could not be read.
    """

    created_s: int | None = None
    iso6709: tuple[bytes, ...] = ()
    loci: tuple[int, int, int] | None = None
    texts: tuple[tuple[str, bytes], ...] = ()
    damaged: bool = False


@dataclass(slots=True, kw_only=True)
class Found:
    """The notebook of one walk; a walker writes it, nobody changes it afterwards.

    Attributes:
        width_px: width from the header, before any rotation, or None.
        height_px: height from the header, or None.
        exif: windows over what should be bare TIFF blocks, in order.
        exif_marked: number of Exif marks met, readable or not.
        xmp: XMP packets, in order.
        xmp_marked: number of XMP marks met, readable or not.
        xmp_extended: an extended XMP packet is there.
        c2pa: a C2PA manifest store is embedded.
        further_images: a Multi-Picture index announces more images behind the first.
        movie: the film header, or None for still images.
        end: offset behind the last byte that belongs to the container, or None if unknown.
        complete: the walk got as far as metadata can lie.
        notes: findings of the walk.
    """

    width_px: int | None = None
    height_px: int | None = None
    exif: list[Window] = field(default_factory=list[Window])
    exif_marked: int = 0
    xmp: list[bytes] = field(default_factory=list[bytes])
    xmp_marked: int = 0
    xmp_extended: bool = False
    c2pa: bool = False
    further_images: bool = False
    movie: MovieHeader | None = None
    end: int | None = None
    complete: bool = False
    notes: list[Finding] = field(default_factory=list[Finding])

    def add_exif(self, block: Window) -> None:
        """Keep a block that should begin with a TIFF header."""
        self.exif_marked += 1
        if len(self.exif) < MAX_BLOCKS and block.size <= MAX_EXIF_BYTES:
            self.exif.append(block)

    def add_xmp(self, packet: Window) -> None:
        """Keep an XMP packet if it is of readable size; count it in any case."""
        self.xmp_marked += 1
        taken = sum(len(earlier) for earlier in self.xmp)
        if len(self.xmp) < MAX_BLOCKS and taken + packet.size <= MAX_XMP_BYTES:
            self.xmp.append(packet.peek(0, packet.size))

    def note(self, code: str) -> None:
        """Write down a finding about the container, once."""
        if all(seen.code != code for seen in self.notes):
            self.notes.append(Finding(code=code, facet="container"))
