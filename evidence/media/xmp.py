"""Facts of an XMP packet: camera, place, and the attitude of a drone.

Does: parses a packet with defusedxml and collects the simple properties of a few
namespaces, in the attribute form and in the element form; drone-dji angles and altitudes
become integers. Refuses document types, entities and external references (XML bombs), and
to read extended packets, which are only noted.

    <rdf:Description drone-dji:RelativeAltitude="+39.90" drone-dji:GimbalYawDegree="-140.00"/>

Source: ISO 16684-1 (XMP) §7; Adobe XMP part 2; DJI's namespace as its aircraft write it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from defusedxml.ElementTree import DefusedXMLParser

from evidence.errors import MediaInvalid
from evidence.media.findings import Finding, State
from evidence.media.foreign import guarded
from evidence.media.position import Position, metres_mm, xmp_coordinate
from evidence.media.text import MAX_CHARACTERS, clean, thousandths

# A packet of a real file has some 2,000 nodes (an editor's history); more is a bomb or a dump.
MAX_NODES = 50_000
MAX_DEPTH = 64

_DJI = "http://www.dji.com/drone-dji/1.0/"
_TIFF = "http://ns.adobe.com/tiff/1.0/"
_EXIF = "http://ns.adobe.com/exif/1.0/"
_TERMS = "http://purl.org/dc/terms/"
_NAMESPACES = (_DJI, _TIFF, _EXIF, _TERMS)
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_ORIENTATIONS = frozenset("12345678")
_RDF_VALUE = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}value"


@dataclass(frozen=True, slots=True, kw_only=True)
class XmpFacts:
    """What XMP packets say, as found.

    Attributes:
        state: absent, read or present_unreadable.
        make: maker of the camera.
        model: model of the camera.
        date_time_original: time of the shutter, text as found.
        orientation: 1 to 8.
        lat_e7: latitude, 10^-7 degrees.
        lon_e7: longitude, 10^-7 degrees.
        altitude_mm: above sea level, millimetres.
        gimbal_yaw_mdeg: direction of the camera, thousandths of a degree, from north.
        gimbal_pitch_mdeg: −90,000 looks straight down.
        gimbal_roll_mdeg: thousandths of a degree.
        flight_yaw_mdeg: direction of the aircraft, thousandths of a degree.
        flight_pitch_mdeg: thousandths of a degree.
        flight_roll_mdeg: thousandths of a degree.
        relative_altitude_mm: above the take-off point, millimetres.
        absolute_altitude_mm: above sea level by the aircraft, millimetres.
        drone_model: model that the aircraft names.
        provenance: whether an address of a C2PA manifest is named: `named`, or None.
        findings: what could not be read.
    """

    state: State
    make: str | None = None
    model: str | None = None
    date_time_original: str | None = None
    orientation: int | None = None
    lat_e7: int | None = None
    lon_e7: int | None = None
    altitude_mm: int | None = None
    gimbal_yaw_mdeg: int | None = None
    gimbal_pitch_mdeg: int | None = None
    gimbal_roll_mdeg: int | None = None
    flight_yaw_mdeg: int | None = None
    flight_pitch_mdeg: int | None = None
    flight_roll_mdeg: int | None = None
    relative_altitude_mm: int | None = None
    absolute_altitude_mm: int | None = None
    drone_model: str | None = None
    provenance: str | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def position(self) -> Position | None:
        """The position, if both coordinates were read."""
        if self.lat_e7 is None or self.lon_e7 is None:
            return None
        return Position(lat_e7=self.lat_e7, lon_e7=self.lon_e7, altitude_mm=self.altitude_mm)


def read_properties(packet: bytes) -> dict[str, str]:
    """Return the simple properties of one packet.

    Args:
        packet: XML in UTF-8 or UTF-16, as found; padding around it is dropped.

    Returns:
        `{namespace}name` to text, for the namespaces read here; the first of a name wins.

    Raises:
        MediaInvalid: it is no XML, holds a document type, has too many nodes or is too deep.
    """
    start = packet.find(b"<")
    text = packet[max(start, 0) :].rstrip(b"\x00 \r\n\t") if packet[:2] not in _UTF16 else packet
    collector = _Collector()

    def parse() -> None:
        parser = DefusedXMLParser(target=collector, forbid_dtd=True)
        parser.feed(text)
        parser.close()

    guarded("defusedxml", parse)
    return collector.properties


class _Collector:
    """Takes a packet node by node, builds no tree, and stops what is no packet.

    Threat: a few KB that unpack to millions of nodes, or to nodes nested without end.
    """

    def __init__(self) -> None:
        self.properties: dict[str, str] = {}
        self._nodes = 0
        self._path: list[str] = []
        self._text = ""

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Take the properties that stand in a node's attributes."""
        self._nodes += 1
        self._path.append(tag)
        self._text = ""
        if self._nodes > MAX_NODES or len(self._path) > MAX_DEPTH:
            raise MediaInvalid("An XMP packet has more nodes, or deeper ones, than any real one.")
        for name, value in attributes.items():
            self._keep(name, value)

    def data(self, text: str) -> None:
        """Take text; what stands before a child node is not a simple value."""
        if len(self._text) < MAX_CHARACTERS:
            self._text += text

    def end(self, tag: str) -> None:
        """Take a property that stands as a node of its own, or as `rdf:value` inside one."""
        self._path.pop()
        self._keep(self._path[-1] if tag == _RDF_VALUE and self._path else tag, self._text)
        self._text = ""

    def close(self) -> None:
        """End the packet."""

    def _keep(self, name: str, value: str) -> None:
        if name[1:].startswith(_NAMESPACES) and (text := clean(value)):
            self.properties.setdefault(name, text)


def facts_of(properties: Mapping[str, str]) -> XmpFacts:
    """Turn properties into facts with state `read`."""
    findings: list[Finding] = []

    def dji(name: str) -> int | None:
        return thousandths(properties.get(f"{{{_DJI}}}{name}", ""))

    def text(space: str, name: str) -> str | None:
        return properties.get(f"{{{space}}}{name}") or None

    position = _position(properties, findings)
    orientation = text(_TIFF, "Orientation")
    return XmpFacts(
        state=State.READ,
        make=text(_TIFF, "Make"),
        model=text(_TIFF, "Model"),
        date_time_original=text(_EXIF, "DateTimeOriginal"),
        orientation=int(orientation) if orientation in _ORIENTATIONS else None,
        lat_e7=position.lat_e7 if position else None,
        lon_e7=position.lon_e7 if position else None,
        altitude_mm=position.altitude_mm if position else None,
        gimbal_yaw_mdeg=dji("GimbalYawDegree"),
        gimbal_pitch_mdeg=dji("GimbalPitchDegree"),
        gimbal_roll_mdeg=dji("GimbalRollDegree"),
        flight_yaw_mdeg=dji("FlightYawDegree"),
        flight_pitch_mdeg=dji("FlightPitchDegree"),
        flight_roll_mdeg=dji("FlightRollDegree"),
        relative_altitude_mm=dji("RelativeAltitude"),
        absolute_altitude_mm=dji("AbsoluteAltitude"),
        drone_model=text(_DJI, "DroneModel"),
        provenance="named" if text(_TERMS, "provenance") else None,
        findings=tuple(findings),
    )


def _position(properties: Mapping[str, str], findings: list[Finding]) -> Position | None:
    """Return the position of the `exif` namespace, or note that it cannot be read."""
    lat = properties.get(f"{{{_EXIF}}}GPSLatitude")
    lon = properties.get(f"{{{_EXIF}}}GPSLongitude")
    if not lat or not lon:
        return None
    altitude = metres_mm(properties.get(f"{{{_EXIF}}}GPSAltitude", ""))
    below = properties.get(f"{{{_EXIF}}}GPSAltitudeRef") == "1"
    try:
        return Position(
            lat_e7=xmp_coordinate(lat),
            lon_e7=xmp_coordinate(lon),
            altitude_mm=-altitude if below and altitude is not None else altitude,
        )
    except MediaInvalid as error:
        findings.append(Finding(code="location_unreadable", facet="xmp", detail=error.detail))
        return None
