"""What a witness remembers and refuses on its own account, and how one is made."""

import sqlite3
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.tlog.cosignature import Cosigner, verify_cosignature
from service.transparency.cosigning import Witness, create_memory
from service.transparency.witness import (
    WitnessRefused,
    create_witness,
    main,
    open_witness,
    witness_server,
)
from tests.transparency.small_log import (
    HASH,
    LOG,
    NAME,
    NOW,
    Clock,
    forked,
    lines_of,
)

# --------------------------------------------------------------------------------- its own state


def test_a_refusal_changes_nothing(witness: Witness) -> None:
    """After any refusal the next honest request succeeds from the same size."""
    assert witness.add_checkpoint(LOG.body(0, 5)).status == 200
    before = witness.checkpoint(HASH).body
    for body in (LOG.body(4, 7), forked(9).body(5, 9), LOG.body(5, 9)[:-1], b"", LOG.body(0, 3)):
        assert witness.add_checkpoint(body).status >= 400
    assert witness.checkpoint(HASH).body == before
    assert witness.add_checkpoint(LOG.body(5, 7)).status == 200


def test_a_restart_keeps_the_state(witness: Witness, folder: Path, clock: Clock) -> None:
    """What was cosigned before a restart still counts after it."""
    assert witness.add_checkpoint(LOG.body(0, 5)).status == 200
    again = open_witness(folder, clock)
    assert again.verifier_keys == witness.verifier_keys
    assert again.add_checkpoint(LOG.body(0, 7)).body == b"5\n"
    assert again.add_checkpoint(LOG.body(5, 7)).status == 200


def test_it_does_not_start_without_its_memory(folder: Path, clock: Clock) -> None:
    """A witness whose memory is gone refuses to begin anew under the same keys."""
    (folder / "witness.sqlite").unlink()
    with pytest.raises(FileNotFoundError):
        open_witness(folder, clock)


def test_a_memory_that_disappears_is_503(witness: Witness, folder: Path) -> None:
    """When its memory goes while it runs, it signs nothing and makes no new one."""
    (folder / "witness.sqlite").unlink()
    answer = witness.answer("POST", "/add-checkpoint", LOG.body(0, 5))
    assert (answer.status, answer.retry_after_s) == (503, 1)
    assert not (folder / "witness.sqlite").exists()


def test_it_does_not_sign_behind_its_own_time(witness: Witness, clock: Clock) -> None:
    """A clock that was set back would make it contradict what it said; it waits instead."""
    assert witness.add_checkpoint(LOG.body(0, 5)).status == 200
    clock.now = NOW - 1
    assert witness.add_checkpoint(LOG.body(5, 6)).status == 503
    clock.now = NOW
    assert witness.add_checkpoint(LOG.body(5, 6)).status == 200
    clock.now = 0.0
    assert witness.add_checkpoint(LOG.body(6, 7)).status == 503


def test_the_answer_carries_what_was_stored_even_if_repeated(
    witness: Witness, clock: Clock
) -> None:
    """Whoever missed an answer asks again for the same size and gets new, valid lines."""
    first = lines_of(witness.add_checkpoint(LOG.body(0, 5)))
    clock.now += 9
    conflict = witness.add_checkpoint(LOG.body(0, 5))
    assert (conflict.status, conflict.body) == (409, b"5\n")
    second = lines_of(witness.add_checkpoint(LOG.body(5, 5)))
    key = witness.verifier_keys[0]
    times = [verify_cosignature(LOG.checkpoint(5), lines[0], key) for lines in (first, second)]
    assert times == [NOW, NOW + 9]


# --------------------------------------------------------------------------------------- making


def test_a_folder_is_private_and_never_overwritten(folder: Path) -> None:
    """Keys and memory are readable by their owner alone, and a second witness is refused."""
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(FileExistsError):
        create_witness(folder, NAME, LOG.vkeys)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "vkeys"),
    [
        ("", LOG.vkeys),
        ("with space", LOG.vkeys),
        ("x" * 256, LOG.vkeys),
        (NAME, ["no key"]),
        (NAME, [Cosigner(NAME, LOG.signer._ed25519, None).verifier_keys[0].encode()]),
    ],
)
def test_a_useless_name_or_key_is_refused(tmp_path: Path, name: str, vkeys: list[str]) -> None:
    """Names and keys that no policy could name are refused before anything is written."""
    with pytest.raises(WitnessRefused):
        create_witness(tmp_path / "new", name, vkeys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("witness.json", b"{"),
        ("witness.json", b"[]"),
        ("witness.json", b'{"name": "x y", "logs": []}'),
        ("witness.json", b'{"name": 1, "logs": []}'),
        ("ed25519.key", b"no key"),
    ],
)
def test_a_folder_that_cannot_be_read_is_refused(
    folder: Path, clock: Clock, file: str, content: bytes
) -> None:
    """Broken settings or keys are named at the start."""
    (folder / file).write_bytes(content)
    with pytest.raises(WitnessRefused):
        open_witness(folder, clock)


def test_swapped_keys_are_refused(folder: Path, clock: Clock) -> None:
    """Each algorithm's key lies in its own file."""
    (folder / "ed25519.key").write_bytes((folder / "ml-dsa-44.key").read_bytes())
    with pytest.raises(WitnessRefused):
        open_witness(folder, clock)


def test_a_memory_is_made_once(tmp_path: Path) -> None:
    """The memory of a witness is never replaced by an empty one."""
    create_memory(tmp_path / "memory")
    with pytest.raises(FileExistsError):
        create_memory(tmp_path / "memory")
    with sqlite3.connect(tmp_path / "memory") as connection:
        assert connection.execute("SELECT count(*) FROM seen").fetchone() == (0,)
    connection.close()


def test_it_listens_on_loopback_only(folder: Path) -> None:
    """A witness that others reach stands behind a proxy on its own machine."""
    with pytest.raises(ValueError, match="loopback"):
        witness_server(folder, 0, host="0.0.0.0")  # noqa: S104 -- refused is what is tested


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/add-checkpoint"),
        ("POST", "/"),
        ("POST", f"/{HASH}/checkpoint"),
        ("GET", f"/{HASH.upper()}/checkpoint"),
        ("POST", "/sign-subtree"),
    ],
)
def test_everything_else_is_404(witness: Witness, method: str, path: str) -> None:
    """There are two resources."""
    assert witness.answer(method, path, b"").status == 404


@given(body=st.binary(max_size=400))
def test_arbitrary_bytes_get_an_answer(
    body: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever is posted is answered with a refusal, and nothing is raised."""
    folder = tmp_path_factory.getbasetemp() / "arbitrary"
    if not folder.exists():
        create_witness(folder, NAME, LOG.vkeys)
    witness = open_witness(folder, Clock())
    assert witness.add_checkpoint(body).status == 400


@given(place=st.integers(0, 4000), flip=st.integers(1, 255))
def test_a_changed_byte_gets_nothing_else_cosigned(
    place: int, flip: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A request with one changed byte is refused, or what is cosigned is the log's own tree."""
    folder = tmp_path_factory.getbasetemp() / "changed"
    if not folder.exists():
        create_witness(folder, NAME, LOG.vkeys)
        open_witness(folder, Clock()).add_checkpoint(LOG.body(0, 5))
    witness = open_witness(folder, Clock())
    body = LOG.body(5, 5)
    place %= len(body)
    answer = witness.add_checkpoint(body[:place] + bytes([body[place] ^ flip]) + body[place + 1 :])
    if answer.status == 200:
        key = witness.verifier_keys[0]
        assert verify_cosignature(LOG.checkpoint(5), lines_of(answer)[0], key) == NOW
    else:
        assert answer.status in {400, 403, 404, 409, 422}


def test_the_command_makes_a_witness_and_prints_its_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    """`--create` prints the vkeys that a policy names; the folder can be served at once."""
    logs = [part for vkey in LOG.vkeys for part in ("--log", vkey)]
    main([str(tmp_path / "west"), "--create", NAME, *logs])
    printed = capsys.readouterr().out.split()
    witness = open_witness(tmp_path / "west", clock)
    assert printed == [key.encode() for key in witness.verifier_keys]
    assert witness.add_checkpoint(LOG.body(0, 5)).status == 200
