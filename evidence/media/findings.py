"""What a look at a file can leave behind: four states, and findings from one registry.

Does: names the states that a facet of a file can have and every finding that can be
recorded about it. Refuses: findings that the registry does not know, text from the file in
a finding (a finding may be shown and logged, a file's text may be personal), and silence
that passes for absence.

    Finding(code="location_zero", facet="location", detail="…")
"""

from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class State(StrEnum):
    """What is known about one facet. Never merged: each means something else in court."""

    ABSENT = "absent"
    READ = "read"
    PRESENT_UNREADABLE = "present_unreadable"
    UNSUPPORTED = "unsupported"


FACETS = ("container", "exif", "xmp", "location", "video", "c2pa", "image")

FINDINGS = MappingProxyType(
    {
        "empty_file": "The file has no bytes.",
        "size_differs": "The file does not have the announced number of bytes.",
        "media_type_differs": "The bytes are of another media type than was announced.",
        "format_unsupported": "The bytes are of a format whose metadata is not read.",
        "active_content": "The file holds markup or script that a browser could run.",
        "polyglot": "The file also begins or ends like a file of another format.",
        "trailing_bytes": "Bytes follow after the end that the format names.",
        "container_truncated": "The file ends before its format says so.",
        "container_damaged": "The structure is damaged; reading went on behind the damage.",
        "container_unsearched": "The file is too long to be searched for the end of its image.",
        "container_unreadable": "The structure is too damaged or too large to be walked.",
        "metadata_unfinished": "The file could not be walked far enough to rule metadata out.",
        "exif_several": "The file holds more than one Exif block; the first readable one counts.",
        "exif_unreadable": "There is an Exif block, but it cannot be read.",
        "exif_inconsistent": "A value in the Exif block contradicts what its tag may hold.",
        "xmp_several": "The file holds more than one XMP packet; earlier ones count first.",
        "xmp_unreadable": "There is an XMP packet, but it cannot be read.",
        "xmp_extended": "An extended XMP packet is there; it is noted and not read.",
        "location_zero": "The position is exactly 0° 0°, as devices without a fix write it.",
        "location_unreadable": "A position is there, but it cannot be read.",
        "location_sources_differ": "Two places in the file name positions apart from each other.",
        "video_unreadable": "There is a film header, but it cannot be read.",
        "c2pa_invalid": "The C2PA manifest does not hold for these bytes.",
        "c2pa_untrusted": "No known anchor vouches for the signer of the C2PA manifest.",
        "c2pa_held_elsewhere": "The C2PA manifest is kept at an address; it was not fetched.",
        "c2pa_identity_unchecked": "An identity in the manifest needs the network; not checked.",
        "c2pa_unreadable": "There is a C2PA manifest, but it cannot be read.",
        "c2pa_too_large": "The file is too large for its C2PA manifest to be checked here.",
        "image_too_many_pixels": "The header names more pixels than are decoded here.",
        "image_too_large": "The file has more bytes than are decoded here.",
        "image_undecodable": "The image cannot be decoded.",
        "image_size_differs": "The decoded image has another size than its header names.",
        "inspection_cut_short": "The reading process was stopped before it came to this.",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing worth knowing about a file; never a judgement about its author.

    Attributes:
        code: a name in `FINDINGS`.
        facet: a name in `FACETS`, or empty when the whole file is meant.
        detail: one sentence without text from the file; the registry's sentence if omitted.
    """

    code: str
    facet: str = ""
    detail: str = field(default="")

    def __post_init__(self) -> None:
        """Refuse what the registry does not know; a wrong code is a programming mistake."""
        if self.code not in FINDINGS:
            raise ValueError(f"No such finding: {self.code}.")
        if self.facet and self.facet not in FACETS:
            raise ValueError(f"No such facet: {self.facet}.")
        if not self.detail:
            object.__setattr__(self, "detail", FINDINGS[self.code])

    def to_json(self) -> dict[str, str]:
        """Return the finding as members of a canonical JSON object."""
        members = {"code": self.code, "detail": self.detail}
        return {**members, "facet": self.facet} if self.facet else members
