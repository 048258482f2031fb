"""Encrypted texts: one key each, the same bytes in every attempt, nothing without the key."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import AlreadyExists, IntegrityAlarm, NotFound
from storage.log.texts import LoggedText, TextKeys, open_text, seal_text, texts_name

KEY = bytes(range(32))
TEXT = LoggedText(
    statement=b'{"a":1}',
    received_at=datetime(2026, 11, 23, 1, 4, 6, 123000, tzinfo=UTC),
    committed_size=100,
)


@given(
    statement=st.binary(max_size=500),
    received_at=st.datetimes(
        min_value=datetime(1970, 1, 1),  # noqa: DTZ001 - hypothesis wants naive bounds
        max_value=datetime(2200, 1, 1),  # noqa: DTZ001
    ),
    size=st.integers(0, 2**63 - 1),
    index=st.integers(0, 2**63 - 1),
)
def test_round_trip(statement: bytes, received_at: datetime, size: int, index: int) -> None:
    """What was sealed opens with its key at its place, times in whole milliseconds."""
    at = received_at.replace(microsecond=received_at.microsecond // 1000 * 1000, tzinfo=UTC)
    text = LoggedText(statement=statement, received_at=at, committed_size=size)
    assert open_text(KEY, "log.example", index, seal_text(KEY, "log.example", index, text)) == text


def test_sealing_is_deterministic_and_depends_on_the_place() -> None:
    """A second attempt gives the same bytes; another index or log does not."""
    item = seal_text(KEY, "log.example", 5, TEXT)
    assert seal_text(KEY, "log.example", 5, TEXT) == item
    assert seal_text(KEY, "log.example", 6, TEXT) != item
    assert seal_text(KEY, "other.example", 5, TEXT) != item


def test_nothing_but_the_right_key_and_place_opens() -> None:
    """Another key, index, log, a cut and every flipped bit are refused."""
    item = seal_text(KEY, "log.example", 5, TEXT)
    attempts = [
        (bytes(32), "log.example", 5, item),
        (KEY, "log.example", 6, item),
        (KEY, "other.example", 5, item),
        *((KEY, "log.example", 5, item[:length]) for length in range(len(item))),
        *(
            (KEY, "log.example", 5, item[:n] + bytes([item[n] ^ 1]) + item[n + 1 :])
            for n in range(len(item))
        ),
    ]
    for attempt in attempts:
        with pytest.raises(IntegrityAlarm):
            open_text(*attempt)


def test_keys_are_made_once_and_kept(tmp_path: Path) -> None:
    """Every index of every log has a key of its own, the same after a new start."""
    keys = TextKeys.create(tmp_path / "keys.db")
    first = keys.provide("a", 10, 5)
    wider = keys.provide("a", 8, 10)
    other = keys.provide("b", 8, 10)
    keys.close()
    assert wider[2:7] == first
    assert len({*wider, *other}) == 20
    again = TextKeys(tmp_path / "keys.db")
    assert again.provide("a", 8, 10) == wider
    assert again.find("a", 0, 10) == {8: wider[0], 9: wider[1]}
    again.close()


def test_a_key_file_is_never_made_by_opening(tmp_path: Path) -> None:
    """A lost key file is noticed, and an existing one is not made anew."""
    with pytest.raises(NotFound):
        TextKeys(tmp_path / "keys.db")
    TextKeys.create(tmp_path / "keys.db").close()
    with pytest.raises(AlreadyExists):
        TextKeys.create(tmp_path / "keys.db")


def test_names_follow_the_entry_bundles() -> None:
    """A text bundle has the number of the entry bundle that it belongs to."""
    assert texts_name(0) == "texts/000"
    assert texts_name(1234067) == "texts/x001/x234/067"
