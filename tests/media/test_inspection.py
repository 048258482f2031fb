"""One file from bytes to facts: four states apart, findings by name, canonical JSON."""

import io
import json
from dataclasses import replace
from typing import Any

import pytest

from evidence.canonical import parse_canonical
from evidence.errors import MediaInvalid
from evidence.media import exif, facts, reading
from evidence.media.containers.found import Found
from evidence.media.facts import MediaFacts, unique
from evidence.media.findings import FACETS, FINDINGS, Finding, State
from evidence.media.foreign import guarded
from evidence.media.inspection import inspect, inspect_steps, preview
from service.demo_photos.structures import xmp_packet
from tests.media import material as m

DRONE = xmp_packet(replace(m.SHOT, flight=m.FLIGHT))


def look(data: bytes, announced: str = "image/jpeg") -> MediaFacts:
    """Facts of bytes."""
    return inspect(io.BytesIO(data), len(data), announced)


def codes(found: MediaFacts) -> set[tuple[str, str]]:
    """Findings as (code, facet)."""
    return {(finding.code, finding.facet) for finding in found.findings}


def test_a_photo_is_read_whole() -> None:
    """A camera's JPEG gives all facets, and JSON of integers and strings."""
    read = look(m.jpeg(m.exif_segment(), m.xmp_segment(DRONE)))
    assert read.states == {
        "container": State.READ,
        "exif": State.READ,
        "xmp": State.READ,
        "location": State.READ,
        "video": State.ABSENT,
        "c2pa": State.ABSENT,
        "image": State.READ,
    }
    document: dict[str, Any] = json.loads(read.to_json())
    assert parse_canonical(read.to_json(), max_bytes=65536) == document
    assert (document["exif"]["make"], document["xmp"]["gimbal_pitch_mdeg"]) == ("Fengni", -90_000)
    assert (document["location"]["source"], document["location"]["lat_e7"]) == ("exif", 302_500_000)
    assert (document["findings"], document["format"]) == ([], facts.FORMAT)
    assert list(read.states) == list(FACETS)


def test_a_photo_without_metadata_is_read_as_without() -> None:
    """A plain image has its metadata facets absent, not unreadable and not unsupported."""
    read = look(m.jpeg())
    assert {name: read.states[name] for name in ("exif", "xmp", "location", "c2pa")} == {
        "exif": State.ABSENT,
        "xmp": State.ABSENT,
        "location": State.ABSENT,
        "c2pa": State.ABSENT,
    }


def test_an_empty_file_has_nothing() -> None:
    """No bytes: everything is absent, and that is said."""
    read = look(b"")
    assert (set(read.states.values()), codes(read)) == ({State.ABSENT}, {("empty_file", "")})


def test_an_unknown_format_is_unsupported() -> None:
    """Bytes that no walker knows are unsupported, never absent."""
    read = look(b"\x00\x01\x02\x03" * 9, "application/octet-stream")
    assert (set(read.states.values()), codes(read)) == (
        {State.UNSUPPORTED},
        {("format_unsupported", "container")},
    )


def test_a_structure_beyond_walking_is_unreadable() -> None:
    """A container that a walker must refuse leaves every facet present but unreadable."""
    read = look(b"II*\x00\xff\xff\xff\xff", "image/tiff")
    assert (set(read.states.values()), codes(read)) == (
        {State.PRESENT_UNREADABLE},
        {("container_unreadable", "container")},
    )


def test_a_broken_exif_block_is_no_absence() -> None:
    """A mark without a readable block is present but unreadable, and so is the place."""
    read = look(m.jpeg(m.exif_segment(b"no block at all")))
    assert (read.exif.state, read.location.state) == (State.PRESENT_UNREADABLE,) * 2
    assert ("exif_unreadable", "exif") in codes(read)


def test_the_first_readable_of_several_blocks_counts() -> None:
    """A broken block before a good one does not hide it; that there are several is noted."""
    read = look(m.jpeg(m.exif_segment(b"broken"), m.exif_segment()))
    assert (read.exif.make, codes(read)) == ("Fengni", {("exif_several", "exif")})


def test_a_block_that_eats_the_budget_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a block that takes too many steps no further one is tried."""
    monkeypatch.setattr(exif.MeteredReader.__init__, "__kwdefaults__", {"max_reads": 5})
    read = look(m.jpeg(m.exif_segment(), m.exif_segment()))
    assert read.exif.state is State.PRESENT_UNREADABLE


def test_packets_add_up_and_the_first_counts() -> None:
    """Properties of several packets are joined; a broken one is noted; extended is noted."""
    other = m.XMP.replace(b"Rendered demo camera", b"Another").replace(b"tiff:Make", b"tiff:Artist")
    data = m.jpeg(
        m.xmp_segment(other),
        m.xmp_segment(m.XMP),
        m.xmp_segment(b"<broken"),
        m.segment(0xE1, b"http://ns.adobe.com/xmp/extension/\x00" + b"0" * 40),
    )
    read = look(data)
    assert (read.xmp.make, read.xmp.model, codes(read)) == (
        "Fengni",
        "Another",
        {("xmp_several", "xmp"), ("xmp_unreadable", "xmp"), ("xmp_extended", "xmp")},
    )
    assert look(m.jpeg(m.xmp_segment(b"<broken"))).xmp.state is State.PRESENT_UNREADABLE


def test_a_cut_file_does_not_rule_metadata_out() -> None:
    """Where the walk broke off, facets are unreadable and say that it is unfinished."""
    read = look(m.png(m.chunk(b"eXIf", m.EXIF))[:30], "image/png")
    assert (read.exif.state, ("metadata_unfinished", "exif") in codes(read)) == (
        State.PRESENT_UNREADABLE,
        True,
    )


def test_a_film_is_read() -> None:
    """A film's place and time are read, and its picture is not decoded."""
    data = m.movie(m.mvhd(3_789_783_938), m.box(b"udta", m.atom(b"\xa9xyz", b"+30.2500+120.1700/")))
    read = look(data, "video/mp4")
    assert (read.video.created_utc, read.location.source, read.location.lat_e7) == (
        "2024-02-03T05:45:38Z",
        "video",
        302_500_000,
    )
    assert read.image.state is State.UNSUPPORTED


def test_places_that_differ_or_are_zero_are_noted() -> None:
    """Exif counts before XMP; a second source far away, and 0° 0°, are findings."""
    far = b' exif:GPSLatitude="31,15.0N" exif:GPSLongitude="120,10.2E" xmlns:exif="%s"'
    packet = m.XMP.replace(b" tiff:Make", far % b"http://ns.adobe.com/exif/1.0/" + b" tiff:Make", 1)
    packet = packet.replace(
        b"\n   tiff:Make", far % b"http://ns.adobe.com/exif/1.0/" + b"\n   tiff:Make", 1
    )
    both = look(m.jpeg(m.exif_segment(), m.xmp_segment(packet)))
    zero = look(
        m.movie(m.mvhd(5), m.box(b"udta", m.atom(b"\xa9xyz", b"+00.0000+000.0000/"))), "video/mp4"
    )
    assert (both.location.source, ("location_sources_differ", "location") in codes(both)) == (
        "exif",
        True,
    )
    assert (zero.location.state, ("location_zero", "location") in codes(zero)) == (State.READ, True)


def test_a_place_that_cannot_be_read_is_no_absence() -> None:
    """A position that is there and unreadable leaves the location present but unreadable."""
    data = m.movie(m.mvhd(5), m.box(b"udta", m.atom(b"\xa9xyz", b"somewhere")))
    read = look(data, "video/mp4")
    assert (read.location.state, ("location_unreadable", "location") in codes(read)) == (
        State.PRESENT_UNREADABLE,
        True,
    )


def test_announcements_are_compared() -> None:
    """Another type and another length than announced are findings."""
    data = m.png()
    read = inspect(io.BytesIO(data), 5, "image/jpeg")
    assert codes(read) == {("size_differs", ""), ("media_type_differs", "")}


def test_what_hides_in_an_image_is_noted() -> None:
    """Trailing archives and markup are findings, and so is markup under an image's name."""
    zipped = look(m.jpeg(tail=b"PK\x03\x04" + b"x" * 30 + b"PK\x05\x06" + b"\x00" * 18))
    markup = look(b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>")
    assert codes(zipped) == {("polyglot", "container"), ("trailing_bytes", "container")}
    assert codes(markup) == {
        ("media_type_differs", ""),
        ("format_unsupported", "container"),
        ("active_content", "container"),
    }


def test_steps_tell_the_truth_at_each_moment() -> None:
    """Until a step was made, its facet says that the inspection was cut short."""
    data = m.jpeg(m.c2pa_segment(), m.exif_segment())
    steps = list(inspect_steps(io.BytesIO(data), len(data), "image/jpeg"))
    seen = [(step.exif.state, codes(step)) for step in steps]
    assert seen == [
        (State.READ, {("inspection_cut_short", "c2pa"), ("inspection_cut_short", "image")}),
        (State.READ, {("c2pa_unreadable", "c2pa"), ("inspection_cut_short", "image")}),
        (State.READ, {("c2pa_unreadable", "c2pa")}),
    ]


def test_previews_are_made_or_refused_by_name() -> None:
    """An image gives a JPEG; anything else gives the finding that says why not."""
    assert isinstance(preview(io.BytesIO(m.jpeg(m.exif_segment()))), bytes)
    refused = {
        b"": "format_unsupported",
        m.heic(): "format_unsupported",
        m.png_header(50_000, 50_000): "image_too_many_pixels",
        m.png_header(64, 48): "image_undecodable",
        b"II*\x00\xff\xff\xff\xff": "image_undecodable",
    }
    got = {data: preview(io.BytesIO(data)) for data in refused}
    assert {data: made.code for data, made in got.items() if isinstance(made, Finding)} == refused


def test_findings_are_listed_once_and_bounded() -> None:
    """A flood of findings is cut where an `inspected` statement ends."""
    flood = [Finding(code=code, facet=facet) for code in FINDINGS for facet in FACETS]
    assert len(unique([*flood, *flood])) == facts.MAX_FINDINGS


def test_the_door_lets_only_our_errors_out() -> None:
    """Foreign exceptions become ours by kind; ours pass unchanged."""

    def foreign() -> None:
        raise KeyError("a text out of the file")

    def own() -> None:
        raise MediaInvalid("ours")

    with pytest.raises(MediaInvalid) as caught:
        guarded("parser", foreign)
    assert caught.value.detail == "parser gave up: KeyError."
    with pytest.raises(MediaInvalid, match="ours"):
        guarded("parser", own)


def test_several_images_are_announced() -> None:
    """A multi-picture index is told."""
    assert look(m.jpeg(m.segment(0xE2, b"MPF\x00"))).container.further_images == "announced"


def test_nothing_is_made_up_for_an_empty_walk() -> None:
    """A walk that found nothing and finished gives absent facets."""
    assert reading.first_exif(Found(complete=True)).state is State.ABSENT
