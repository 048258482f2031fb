"""Claims beside facts: each difference with its size, and no comparison that is none."""

from typing import Any

import pytest

from evidence.media.claims import Discrepancy, compare, distance_mm

CLAIM: dict[str, Any] = {
    "captured_at": "2026-11-23T01:04:05.678Z",
    "content": {"media_type": "image/jpeg", "sha256": "0" * 64, "size_bytes": 4},
    "mode": "attended",
    "place": {
        "accuracy_mm": 8000,
        "lat_e7": 302_500_000,
        "lon_e7": 1_201_700_000,
        "source": "gnss",
    },
    "utc_offset_min": 480,
}
FACTS: dict[str, Any] = {
    "exif": {
        "date_time_original": "2026:11:23 09:04:05",
        "gps_time_utc": "2026-11-23T01:04:05Z",
        "make": "Fengni",
        "state": "read",
        "utc_offset_min": 480,
    },
    "location": {
        "altitude_mm": 9400,
        "lat_e7": 302_500_000,
        "lon_e7": 1_201_700_000,
        "state": "read",
    },
    "size_bytes": 4,
    "sniffed_media_type": "image/jpeg",
    "video": {"state": "absent"},
    "xmp": {"state": "absent"},
}


def differences(
    claim: dict[str, Any] | None = None, facts: dict[str, Any] | None = None, **exif: object
) -> list[tuple[str, int | None, str]]:
    """Differences of a claim and facts that are changed in some members."""
    read = {**FACTS, **(facts or {})}
    read["exif"] = {**read["exif"], **exif}
    read["exif"] = {name: value for name, value in read["exif"].items() if value is not None}
    told = {**CLAIM, **(claim or {})}
    told = {name: value for name, value in told.items() if value is not None}
    return [(entry.code, entry.difference, entry.unit) for entry in compare(told, read)]


def test_a_true_claim_has_no_differences() -> None:
    """Time to the second, place within the stated accuracy: nothing to record."""
    near = {**CLAIM["place"], "lat_e7": 302_500_500}
    assert (differences(), differences({"place": near})) == ([], [])


@pytest.mark.parametrize(
    ("exif", "expected"),
    [
        ({"date_time_original": "2026:11:23 09:04:47"}, [("time_differs", 41, "s")]),
        ({"date_time_original": "2026-11-23 08:04:05"}, [("time_differs", -3601, "s")]),
        (
            {"date_time_original": "2026:11:23 09:05:05", "utc_offset_min": None},
            [("local_time_differs", 59, "s")],
        ),
        ({"gps_time_utc": "2026-11-23T01:00:00Z"}, [("gps_time_differs", -246, "s")]),
        (
            {"utc_offset_min": 420, "date_time_original": "2026:11:23 08:04:05"},
            [("utc_offset_differs", -60, "min")],
        ),
        ({"date_time_original": "2026:13:45 99:00:00"}, [("time_only_claimed", None, "")]),
        ({"date_time_original": None}, [("time_only_claimed", None, "")]),
        ({"make": "Other"}, []),
    ],
)
def test_times_are_compared_as_far_as_they_can(
    exif: dict[str, object], expected: list[tuple[str, int | None, str]]
) -> None:
    """Instants are compared as instants, wall clocks as wall clocks, and nothing else."""
    assert differences(None, None, **exif) == expected


def test_a_local_time_without_any_offset_is_not_compared() -> None:
    """Neither side says where the clock stood: UTC is not assumed."""
    assert differences({"utc_offset_min": None}, None, utc_offset_min=None) == []


def test_a_films_local_date_is_an_instant() -> None:
    """The phone's creation date with its offset is compared when there is no Exif time."""
    film = {"video": {"creation_date": "2026-11-22T20:04:35-0500", "state": "read"}}
    assert differences(
        None, film, date_time_original=None, gps_time_utc=None, utc_offset_min=None
    ) == [
        ("time_differs", 29, "s"),
        ("utc_offset_differs", -780, "min"),
    ]


@pytest.mark.parametrize(
    ("claim", "facts", "expected"),
    [
        (
            {"place": {**CLAIM["place"], "lat_e7": 302_600_000}},
            {},
            [("place_differs", 1_111_951, "mm")],
        ),
        (
            {"place": {**CLAIM["place"], "height_mm": 20_000}},
            {},
            [("height_differs", -10_600, "mm")],
        ),
        ({"place": {**CLAIM["place"], "height_mm": 9_000}}, {}, []),
        ({"place": None}, {}, [("place_only_in_file", None, "")]),
        ({}, {"location": {"state": "absent"}}, [("place_only_claimed", None, "")]),
        ({"place": None}, {"location": {"state": "absent"}}, []),
        (
            {"content": {"media_type": "image/png"}},
            {},
            [("media_type_differs", None, "")],
        ),
        ({"content": {"media_type": "image/png"}}, {"size_bytes": 0}, []),
        ({"make": "FENGNI ", "model": "X"}, {}, []),
        ({"make": "Huawei"}, {}, [("make_differs", None, "")]),
        ({"model": "M3E"}, {"xmp": {"model": "Mini"}}, [("model_differs", None, "")]),
    ],
)
def test_places_types_and_devices_are_compared(
    claim: dict[str, Any], facts: dict[str, Any], expected: list[tuple[str, int | None, str]]
) -> None:
    """Distances beyond the claim's own accuracy, other types and other devices are recorded."""
    assert differences(claim, facts) == expected


def test_distances_are_those_of_the_sphere() -> None:
    """A degree of latitude, half the equator, and no distance at all."""
    assert distance_mm((0, 0), (10_000_000, 0)) == 111_195_080
    assert distance_mm((0, 0), (0, 1_800_000_000)) == 20_015_114_442
    assert distance_mm((5, 5), (5, 5)) == 0


def test_differences_come_from_the_registry() -> None:
    """An unknown code is a mistake of the code, not a difference."""
    with pytest.raises(ValueError, match="No such discrepancy"):
        Discrepancy(code="nonsense")


def test_differences_are_canonical_members() -> None:
    """A difference is written with its unit, one without a size without."""
    entries = compare({**CLAIM, "make": "Huawei"}, {**FACTS, "location": {"state": "absent"}})
    assert [entry.to_json() for entry in entries] == [
        {"claimed": "302500000,1201700000", "code": "place_only_claimed", "read": ""},
        {"claimed": "Huawei", "code": "make_differs", "read": "Fengni"},
    ]
    late = compare(
        CLAIM, {**FACTS, "exif": {**FACTS["exif"], "gps_time_utc": "2026-11-23T02:04:05Z"}}
    )
    assert late[0].to_json() == {
        "claimed": "2026-11-23T01:04:05.678Z",
        "code": "gps_time_differs",
        "difference": 3599,
        "read": "2026-11-23T02:04:05Z",
        "unit": "s",
    }
