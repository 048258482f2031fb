"""XMP gives a drone's attitude, bombs give errors, and C2PA asks nobody."""

import io
import re
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from evidence.errors import MediaInvalid
from evidence.media import provenance
from evidence.media.findings import State
from evidence.media.provenance import C2paFacts, read_c2pa
from evidence.media.xmp import facts_of, read_properties
from service.demo_photos.structures import xmp_packet
from tests.media import material as m

DRONE = xmp_packet(replace(m.SHOT, flight=m.FLIGHT))
RDF = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf='
    b'"http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description'
    b' xmlns:drone-dji="http://www.dji.com/drone-dji/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/"'
    b' xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:dcterms="http://purl.org/dc/terms/"%s>%s'
    b"</rdf:Description></rdf:RDF></x:xmpmeta>"
)


def facts(attributes: bytes = b"", elements: bytes = b""):  # noqa: ANN201
    """Facts of a packet with the given attributes and elements."""
    return facts_of(read_properties(RDF % (attributes, elements)))


def test_drone_attitude_in_attributes() -> None:
    """The attribute form, as aircraft write it, becomes integers."""
    read = facts_of(read_properties(DRONE))
    assert (read.gimbal_yaw_mdeg, read.gimbal_pitch_mdeg, read.gimbal_roll_mdeg) == (
        -42_500,
        -90_000,
        0,
    )
    assert (read.flight_yaw_mdeg, read.flight_pitch_mdeg, read.flight_roll_mdeg) == (
        -41_900, -3_200, 1_100,
    )  # fmt: skip
    assert (read.relative_altitude_mm, read.absolute_altitude_mm) == (60_300, 71_900)
    assert (read.make, read.model) == ("Fengni", "Rendered demo drone")


def test_drone_attitude_in_elements() -> None:
    """The element form, also with rdf:value inside, means the same; the first one counts."""
    read = facts(
        b' drone-dji:DroneModel="M3E"',
        b"<drone-dji:RelativeAltitude>+39.90</drone-dji:RelativeAltitude>"
        b"<drone-dji:GimbalYawDegree><rdf:value>-140.0</rdf:value></drone-dji:GimbalYawDegree>"
        b"<drone-dji:GimbalYawDegree>7</drone-dji:GimbalYawDegree><drone-dji:FlightYawDegree/>",
    )
    assert (read.relative_altitude_mm, read.gimbal_yaw_mdeg, read.drone_model) == (
        39_900,
        -140_000,
        "M3E",
    )
    assert (read.flight_yaw_mdeg, read.position) == (None, None)


@pytest.mark.parametrize(("ref", "altitude"), [(b"0", 9_400), (b"1", -9_400)])
def test_position_in_xmp(ref: bytes, altitude: int) -> None:
    """Coordinates and altitude of the exif namespace are read with their reference."""
    read = facts(
        b' exif:GPSLatitude="30,15.0N" exif:GPSLongitude="120,10.2E" exif:GPSAltitude="9400/1000"'
        b' exif:GPSAltitudeRef="' + ref + b'" tiff:Orientation="6"'
    )
    assert read.position is not None
    assert (read.lat_e7, read.lon_e7, read.altitude_mm) == (302_500_000, 1_201_700_000, altitude)
    assert read.orientation == 6


def test_positions_that_cannot_be_read_are_noted() -> None:
    """A coordinate of another form is noted; half a position is none."""
    bad = facts(b' exif:GPSLatitude="north" exif:GPSLongitude="120,10.2E" tiff:Orientation="12"')
    half = facts(b' exif:GPSLatitude="30,15.0N"')
    assert ([finding.code for finding in bad.findings], bad.orientation) == (
        ["location_unreadable"],
        None,
    )
    assert (half.position, half.findings) == (None, ())


def test_long_texts_are_cut() -> None:
    """An element of sixty thousand characters, given in pieces, is kept as far as text may go."""
    read = facts(b"", b"<tiff:Make>" + b"ab&amp;" * 20_000 + b"</tiff:Make>")
    assert read.make == ("ab&" * 100)[:256]


def test_utf_16_and_padding_are_read() -> None:
    """A packet in UTF-16, and one with padding around it, are XML all the same."""
    plain = RDF % (b' tiff:Make="Fengni"', b"")
    wide = plain.decode().encode("utf-16")
    for packet in (b"junk " + plain + b"\x00\n ", wide):
        assert facts_of(read_properties(packet)).make == "Fengni"


LAUGHS = b"<!DOCTYPE x [" + b"".join(
    b'<!ENTITY l%d "%s">' % (level, b"&l%d;" % (level - 1) * 10 if level else b"lol")
    for level in range(10)
)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"no xml",
        b"<x>",
        LAUGHS + b"]><x>&l9;</x>",
        b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
        b'<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd"><x/>',
        b"<x>" + b"<y/>" * 50_001 + b"</x>",
        b"<x" + b' a="1"' * 2 + b"/>",
        b"<?xml version='1.0' encoding='utf-7'?><x/>",
        b"\xff\xfe<\x00",
    ],
)
def test_xml_bombs_and_broken_packets_are_refused(packet: bytes) -> None:
    """Document types, entities, external references and floods of nodes end in our error."""
    with pytest.raises(MediaInvalid):
        read_properties(packet)


def test_deep_nesting_is_survived() -> None:
    """A packet of a hundred thousand nested elements is refused at its sixty-fifth."""
    with pytest.raises(MediaInvalid, match="deeper"):
        read_properties(b"<a>" * 90_000 + b"</a>" * 90_000)


# ---------------------------------------------------------------------------- C2PA


@pytest.fixture
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """A loopback listener that notes who calls."""
    calls: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    calls.append(connection.recv(1000))

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1], calls
        done.set()
        thread.join()


def test_a_remote_manifest_makes_no_request(listener: tuple[int, list[bytes]]) -> None:
    """An address in XMP is noted as “held elsewhere” and never asked."""
    port, calls = listener
    address = b"http://127.0.0.1:%d/internal/secret" % port
    packet = RDF % (b' dcterms:provenance="' + address + b'"', b"")
    data = m.png(m.chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x00\x00\x00\x00" + packet))
    facts = read_c2pa(io.BytesIO(data), "image/png", len(data))
    codes = [finding.code for finding in facts.findings]
    assert (facts.held_elsewhere, codes, calls) == ("named", ["c2pa_held_elsewhere"], [])


def test_broken_and_missing_manifests_are_unreadable() -> None:
    """A mark without a manifest is present but unreadable; unknown formats are unsupported."""
    data = m.jpeg(m.c2pa_segment())
    broken = read_c2pa(io.BytesIO(data), "image/jpeg", len(data))
    other = read_c2pa(io.BytesIO(b""), "video/3gpp", 0)
    large = read_c2pa(io.BytesIO(b""), "image/jpeg", provenance.MAX_FILE_BYTES + 1)
    seen = [
        (read.state, [finding.code for finding in read.findings]) for read in (broken, other, large)
    ]
    assert seen == [
        (State.PRESENT_UNREADABLE, ["c2pa_unreadable"]),
        (State.UNSUPPORTED, []),
        (State.PRESENT_UNREADABLE, ["c2pa_too_large"]),
    ]


@pytest.fixture(scope="module")
def captures(shared: Path) -> Path:
    """The folder of real files."""
    return shared / "captures"


def real(captures: Path, name: str, *, trust_anchors: str = "") -> C2paFacts:
    """Facts of a real file with a manifest."""
    path = captures / name
    with path.open("rb") as file:
        return read_c2pa(file, "image/jpeg", path.stat().st_size, trust_anchors=trust_anchors)


def test_a_valid_manifest_of_an_unknown_signer(captures: Path) -> None:
    """Valid for the bytes, and plainly not trusted."""
    facts = real(captures, "c2pa-rs-fixtures/cli/sample/C.jpg")
    assert (facts.validation, facts.signer, [finding.code for finding in facts.findings]) == (
        "valid",
        "C2PA Test Signing Cert",
        ["c2pa_untrusted"],
    )


def certificates(data: bytes) -> list[x509.Certificate]:
    """The certificates that lie in a file, in the order of their chain."""
    starts = re.finditer(rb"\x30\x82(..)\x30\x82", data, re.DOTALL)
    spans = ((at.start(), 4 + int.from_bytes(at[1], "big")) for at in starts)
    return [x509.load_der_x509_certificate(data[start : start + size]) for start, size in spans]


def test_an_anchor_makes_its_signer_trusted(captures: Path) -> None:
    """With the signer's root as an anchor the manifest is trusted; with a foreign one it is not."""
    name = "c2pa-rs-fixtures/cli/sample/C.jpg"
    pems = [
        certificate.public_bytes(Encoding.PEM).decode()
        for certificate in certificates((captures / name).read_bytes())
    ]
    verdicts = [real(captures, name, trust_anchors=pems[at]).validation for at in (2, 5)]
    assert verdicts == ["trusted", "valid"]


def test_an_invalid_manifest_is_neither(captures: Path) -> None:
    """A manifest that does not hold for the bytes is invalid, with the codes that say why."""
    name = "c2pa-python-fixtures/tests/fixtures/files-for-reading-tests/XCA.jpg"
    facts = real(captures, name)
    assert (facts.validation, facts.failures) == (
        "invalid",
        ("assertion.dataHash.mismatch", "signingCredential.untrusted"),
    )


def test_an_identity_that_needs_the_network_does_not_make_invalid(captures: Path) -> None:
    """A manifest whose identity document is on the web is valid, with the identity unchecked."""
    name = (
        "c2pa-rs-fixtures/sdk/src/identity/tests/fixtures/claim_aggregation/"
        "adobe_connected_identities.jpg"
    )
    facts = real(captures, name)
    codes = {finding.code for finding in facts.findings}
    assert (facts.validation, "c2pa_identity_unchecked" in codes) == ("valid", True)


def report(**members: object) -> C2paFacts:
    """Facts of a report made by hand, as a later version of the library might write it."""
    return provenance._facts(members, unchecked=False)


def test_reports_of_unexpected_form_are_not_believed() -> None:
    """A report without a known verdict is unreadable; odd members are left out."""
    odd = report(validation_state="Perfect", manifests=[], active_manifest=5)
    trusted = report(
        validation_state="Trusted",
        active_manifest="m",
        manifests={
            "m": {
                "claim_generator": "older form",
                "assertions": [
                    {"data": {"actions": [{}, {"digitalSourceType": "http://x/y/digitalCapture"}]}}
                ],
            }
        },
    )
    assert (odd.state, odd.validation, odd.generator) == (State.PRESENT_UNREADABLE, None, None)
    assert (trusted.validation, trusted.generator, trusted.source_type) == (
        "trusted",
        "older form",
        "digitalCapture",
    )


def test_a_manifest_in_a_film_is_checked(captures: Path) -> None:
    """A manifest in an MP4 is read through the same door."""
    path = captures / "c2pa-python-fixtures/tests/fixtures/files-for-reading-tests/video1.mp4"
    with path.open("rb") as file:
        facts = read_c2pa(file, "video/mp4", path.stat().st_size)
    assert facts.validation == "valid"


def test_struct_sizes_are_what_the_segment_says() -> None:
    """The C2PA mark of the tests is built as the specification lays it out."""
    segment = m.c2pa_segment()
    assert (segment[4:6], segment[16:20], segment[28:32]) == (b"JP", b"jumb", b"c2pa")
    assert struct.unpack(">H", segment[2:4])[0] == len(segment) - 2
