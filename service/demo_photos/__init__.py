"""Photos for the demo: rendered, plausible, and plainly marked as showing no real place.

Does: renders a few scenes of everyday inspection and puts real Exif and XMP structures into
them, so that the demo and the tests need nobody's photo. The same seed and time give the same
bytes with the same versions of the libraries. Refuses to imitate a real camera, and to hide
its origin: the description, the maker and the digital source type all name it.

    photo = render_photos(at)[0]; photo.media_type == "image/jpeg"
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import cv2
import numpy as np

from service.demo_photos import scenes
from service.demo_photos.structures import Flight, Shot, with_metadata

WIDTH_PX, HEIGHT_PX = 1600, 1200
QUALITY = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPhoto:
    """One rendered photo and what a device would claim of it.

    Attributes:
        name: file name.
        data: the JPEG.
        media_type: always image/jpeg.
        captured_at: UTC.
        utc_offset_min: offset of the local time written into the photo, minutes.
        lat_e7: latitude, 10^-7 degrees.
        lon_e7: longitude, 10^-7 degrees.
        height_mm: above sea level, millimetres.
        accuracy_mm: horizontal error that the device would state, millimetres.
    """

    name: str
    data: bytes
    media_type: str
    captured_at: datetime
    utc_offset_min: int
    lat_e7: int
    lon_e7: int
    height_mm: int
    accuracy_mm: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    """What is rendered, how long after the first photo, how far from it, and from where."""

    name: str
    draw: Callable[[np.random.Generator, int, int], scenes.Picture]
    after_s: int
    north_e7: int
    east_e7: int
    height_mm: int
    accuracy_mm: int
    flight: Flight | None = None


_SCENES = (
    _Scene(
        name="stall-on-pavement.jpg",
        draw=scenes.street_stall,
        after_s=0,
        north_e7=0,
        east_e7=0,
        height_mm=9_400,
        accuracy_mm=6_000,
    ),
    _Scene(
        name="rubbish-at-wall.jpg",
        draw=scenes.rubbish_heap,
        after_s=312,
        north_e7=4_150,
        east_e7=-2_870,
        height_mm=9_900,
        accuracy_mm=8_000,
    ),
    _Scene(
        name="roof-from-drone.jpg",
        draw=scenes.roofs_from_above,
        after_s=1_507,
        north_e7=12_340,
        east_e7=8_020,
        height_mm=71_900,
        accuracy_mm=2_000,
        flight=Flight(
            gimbal_yaw_mdeg=-42_500,
            gimbal_pitch_mdeg=-90_000,
            gimbal_roll_mdeg=0,
            flight_yaw_mdeg=-41_900,
            flight_pitch_mdeg=-3_200,
            flight_roll_mdeg=1_100,
            relative_altitude_mm=60_300,
            absolute_altitude_mm=71_900,
        ),
    ),
)


def render_photos(
    at: datetime,
    *,
    seed: int = 0,
    utc_offset_min: int = 480,
    lat_e7: int = 302_500_000,
    lon_e7: int = 1_201_700_000,
) -> tuple[DemoPhoto, ...]:
    """Render the demo's photos: a stall on a pavement, rubbish at a wall, roofs from a drone.

    Args:
        at: when the first one is taken, UTC-aware; the others follow within half an hour.
        seed: changes the scenes' details, ≥ 0.
        utc_offset_min: offset of the local time, minutes.
        lat_e7: latitude of the first photo, 10^-7 degrees.
        lon_e7: longitude of the first photo, 10^-7 degrees.
    """
    return tuple(
        _render(scene, at, seed + number, utc_offset_min, (lat_e7, lon_e7))
        for number, scene in enumerate(_SCENES)
    )


def _render(
    scene: _Scene, at: datetime, seed: int, utc_offset_min: int, origin: tuple[int, int]
) -> DemoPhoto:
    chance = np.random.default_rng(seed)
    picture = scenes.grain(scene.draw(chance, WIDTH_PX, HEIGHT_PX), chance)
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    shot = Shot(
        taken_at=at + timedelta(seconds=scene.after_s),
        utc_offset_min=utc_offset_min,
        lat_e7=origin[0] + scene.north_e7,
        lon_e7=origin[1] + scene.east_e7,
        altitude_mm=scene.height_mm,
        accuracy_mm=scene.accuracy_mm,
        width_px=WIDTH_PX,
        height_px=HEIGHT_PX,
        flight=scene.flight,
    )
    return DemoPhoto(
        name=scene.name,
        data=with_metadata(encoded.tobytes(), shot),
        media_type="image/jpeg",
        captured_at=shot.taken_at,
        utc_offset_min=utc_offset_min,
        lat_e7=shot.lat_e7,
        lon_e7=shot.lon_e7,
        height_mm=scene.height_mm,
        accuracy_mm=scene.accuracy_mm,
    )
