"""The device's journal: what it keeps, and what it refuses."""

from pathlib import Path

import pytest

from evidence.keys import P256Signer
from service.client.device import Claim, Device, MeasuredFile, measure_file
from service.client.failures import Misused, Undecided
from service.client.journal import Entry, Journal, open_journal
from service.context import fresh_salt, system_clock

AUDIENCE = "demo"


@pytest.fixture
def device() -> Device:
    """A device with a new key."""
    return Device(
        signer=P256Signer.generate(),
        audience=AUDIENCE,
        organ="demo-organ",
        clock=system_clock,
        fresh_salt=fresh_salt,
    )


def file_of(folder: Path, data: bytes = b"four", name: str = "photo.jpg") -> MeasuredFile:
    """A measured file."""
    path = folder / name
    path.write_bytes(data)
    return measure_file(path, lambda _size: None)


def add_capture(journal: Journal, device: Device, file: MeasuredFile) -> Entry:
    """A capture in the journal."""
    entry = device.capture(file, Claim())
    journal.add(entry, audience=AUDIENCE, likeness=Claim().likeness(sha256=file.content.sha256))
    return entry


def test_an_entry_is_found_again_by_what_was_wished(tmp_path: Path, device: Device) -> None:
    """The same wish about the same bytes finds the statement that was made first."""
    file = file_of(tmp_path)
    with open_journal(tmp_path / "journal") as journal:
        entry = add_capture(journal, device, file)
    with open_journal(tmp_path / "journal") as journal:
        likeness = Claim().likeness(sha256=file.content.sha256)
        assert journal.alike(AUDIENCE, device.signer.key_id, likeness) == [entry]
        assert journal.alike("another", device.signer.key_id, likeness) == []
        assert journal.alike(AUDIENCE, device.signer.key_id, Claim(task="t").likeness()) == []


def test_the_first_receipt_stays(tmp_path: Path, device: Device) -> None:
    """A receipt that is kept is never replaced, and the content is marked once it was taken."""
    with open_journal(tmp_path / "journal") as journal:
        entry = add_capture(journal, device, file_of(tmp_path))
        journal.keep_receipts([(entry.id, b"first")])
        journal.keep_receipts([(entry.id, b"second")])
        journal.mark_sent(entry.id)
        kept = journal.get(entry.id)
        assert (kept.receipt, kept.sent) == (b"first", True)


def test_an_older_checkpoint_never_replaces_a_newer_one(tmp_path: Path) -> None:
    """What the device once held of a log it goes on holding."""
    with open_journal(tmp_path / "journal") as journal:
        journal.keep_checkpoint("log.example/a", 7, b"seven")
        journal.keep_checkpoint("log.example/a", 5, b"five")
        assert journal.checkpoint("log.example/a") == b"seven"
        assert journal.checkpoint("log.example/b") is None


def test_two_processes_cannot_share_a_journal(tmp_path: Path) -> None:
    """A second opening is told to wait instead of interleaving."""
    with (
        open_journal(tmp_path / "journal"),
        pytest.raises(Undecided, match="Another"),
        open_journal(tmp_path / "journal"),
    ):
        pass


def test_an_unknown_entry_is_a_mistake(tmp_path: Path) -> None:
    """Asking for an entry that the journal never had raises."""
    with open_journal(tmp_path / "journal") as journal, pytest.raises(KeyError):
        journal.get("00" * 32)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A folder or a missing file cannot be a capture."""
    with pytest.raises(Misused):
        measure_file(tmp_path, lambda _size: None)
    with pytest.raises(Misused):
        measure_file(tmp_path / "missing.jpg", lambda _size: None)
