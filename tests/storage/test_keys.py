"""The key store on a file and on a server: made once, wrapped, destroyed for ever, backed up."""

import io
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from storage.db.engine import Database
from storage.errors import IntegrityAlarm, KeyDestroyed, NotFound, Unavailable
from storage.keys import Destroyed, KeyStore, content_key_name
from storage.keys.backup import read_backup, restore_backup, write_backup
from storage.keys.stores import FileKeys, SharedKeys
from storage.keys.tables import prepare
from storage.keys.token import TokenWrapper
from storage.keys.wrapping import FileWrapper, KeyWrapper
from tests.postgres import OWNER, SERVICE, PostgresServer
from tests.tools import require_tool

ORIGIN = "log.example/a"
AT = datetime(2026, 11, 26, 9, tzinfo=UTC)
NOTE = {"at": AT, "by": "officer-3", "reason": "public video, article 17"}
SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")


@pytest.fixture
def wrapper(tmp_path: Path) -> FileWrapper:
    """Fresh key-encryption keys in a file."""
    return FileWrapper.create(tmp_path / "kek")


@pytest.fixture(params=["file", "server"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, wrapper: FileWrapper
) -> Iterator[KeyStore]:
    """Each sort of store, empty."""
    if request.param == "file":
        opened: KeyStore = FileKeys.create(tmp_path / "texts.db", wrapper)
        yield opened
        opened.close()
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = server.empty()
    owner = Database(server.url(name, OWNER))
    prepare(owner, service_role=SERVICE)
    prepare(owner, service_role=SERVICE)
    owner.close()
    opened = SharedKeys(Database(server.url(name)), wrapper)
    yield opened
    opened.close()
    server.drop(name)


def test_a_key_is_made_once_and_found_again(store: KeyStore) -> None:
    """Texts by index, contents by name; each key is another one."""
    texts = store.provide(ORIGIN, 8, 4)
    content = store.provide_content(ORIGIN, "ab" * 32)
    assert store.provide(ORIGIN, 6, 8)[2:6] == texts
    assert store.provide_content(ORIGIN, "ab" * 32) == content
    assert store.find_content(ORIGIN, "ab" * 32) == content
    assert len({*store.provide(ORIGIN, 6, 8), content}) == 9
    assert list(store.faults()) == []


def test_missing_is_not_destroyed(store: KeyStore) -> None:
    """A key that nobody made or that was lost is an error of its own; a destroyed one stays so."""
    with pytest.raises(NotFound):
        store.find_content(ORIGIN, "c")
    store.provide_content(ORIGIN, "c")
    noted = store.destroy_content(ORIGIN, "c", **NOTE)  # type: ignore[arg-type]
    assert noted == Destroyed(origin=ORIGIN, name="content c", **NOTE)  # type: ignore[arg-type]
    for ask in (store.find_content, store.provide_content):
        with pytest.raises(KeyDestroyed):
            ask(ORIGIN, "c")
    again = store.destroy_content(ORIGIN, "c", at=datetime.now(UTC), by="b", reason="again")
    assert again == noted
    assert store.count().destroyed == 1


def test_no_second_word_about_a_destroyed_key(store: KeyStore) -> None:
    """The note can be neither changed nor removed, whoever writes to the store."""
    store.destroy_content(ORIGIN, "c", **NOTE)  # type: ignore[arg-type]
    for order in ("UPDATE destroyed_keys SET by_whom = 'x'", "DELETE FROM destroyed_keys"):
        with pytest.raises(Exception, match=r"only ever added|permission denied"):  # noqa: SIM117
            with store.db.write() as connection:
                connection.execute(text(order))
    assert [one.by for one in store.destroyed()] == ["officer-3"]


def test_a_destroyed_key_is_in_no_byte_of_the_file(tmp_path: Path, wrapper: FileWrapper) -> None:
    """Neither plain nor wrapped, neither in the file nor in its write-ahead log."""
    path = tmp_path / "texts.db"
    store = FileKeys.create(path, wrapper)
    plain = store.provide_content(ORIGIN, "c")
    store.provide(ORIGIN, 0, 300)
    [row] = [row for row in store.content_rows() if row.name == "c"]
    wrapped = bytes(row.key)

    def everything() -> bytes:
        return b"".join(one.read_bytes() for one in tmp_path.glob("texts.db*"))

    assert wrapped in everything()
    assert plain not in everything()
    store.destroy_content(ORIGIN, "c", **NOTE)  # type: ignore[arg-type]
    assert wrapped not in everything()
    assert len(store.find(ORIGIN, 0, 300)) == 300
    store.close()


def test_a_wrapped_key_opens_at_its_place_only(tmp_path: Path, wrapper: FileWrapper) -> None:
    """Rows that change places, and bytes that change, are refused."""
    path = tmp_path / "texts.db"
    store = FileKeys.create(path, wrapper)
    store.provide(ORIGIN, 0, 2)
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute(
            "UPDATE text_keys SET key = (SELECT key FROM text_keys WHERE idx = 1) WHERE idx = 0"
        )
    with pytest.raises(IntegrityAlarm):
        store.find(ORIGIN, 0, 1)
    assert len(list(store.faults())) == 1
    store.close()


def test_a_key_file_of_the_version_before_opens_as_it_was(tmp_path: Path) -> None:
    """Its keys are the same, with and without something that wraps; rotation wraps them."""
    path = tmp_path / "texts.db"
    old = {0: bytes(range(32)), 7: bytes(range(1, 33))}
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute(
            "CREATE TABLE text_keys (origin TEXT NOT NULL, idx INTEGER NOT NULL, key BLOB NOT NULL,"
            " PRIMARY KEY (origin, idx)) WITHOUT ROWID"
        )
        rows = [(ORIGIN, index, key) for index, key in old.items()]
        raw.executemany("INSERT INTO text_keys VALUES (?, ?, ?)", rows)
    plain = FileKeys(path)
    assert plain.find(ORIGIN, 0, 10) == old
    plain.close()
    store = FileKeys(path, FileWrapper.create(tmp_path / "kek"))
    assert store.find(ORIGIN, 0, 10) == old
    assert store.rewrap() == 2
    assert store.find(ORIGIN, 0, 10) == old
    kept = b"".join(one.read_bytes() for one in tmp_path.glob("texts.db*"))
    assert [key for key in old.values() if key in kept] == []
    store.close()


def test_rotation_wraps_everything_anew(store: KeyStore, wrapper: FileWrapper) -> None:
    """The same keys under another key-encryption key; the former one can go then."""
    before = store.provide(ORIGIN, 0, 700), store.provide_content(ORIGIN, "c")
    former = wrapper.current
    with pytest.raises(ValueError, match="present"):
        wrapper.forget(former)
    current = wrapper.renew()
    assert store.rewrap() == 701
    assert store.rewrap() == 0
    wrapper.forget(former)
    assert (store.provide(ORIGIN, 0, 700), store.find_content(ORIGIN, "c")) == before
    assert store.count().by_kek == {current: 701}


def test_another_process_learns_of_a_new_wrapping_key(tmp_path: Path) -> None:
    """A node that opened the file before reads it again when a key names what it does not know."""
    first = FileWrapper.create(tmp_path / "kek")
    other = FileWrapper(tmp_path / "kek")
    kek = first.renew()
    wrapped = first.wrap(kek, bytes(32), b"place")
    assert other.unwrap(kek, wrapped, b"place") == bytes(32)
    with pytest.raises(NotFound):
        other.unwrap("unknown", wrapped, b"place")


def test_wrapping_keys_that_others_may_read_are_refused(tmp_path: Path) -> None:
    """Also a file that is something else; nothing is made by opening."""
    with pytest.raises(NotFound):
        FileWrapper(tmp_path / "kek")
    FileWrapper.create(tmp_path / "kek")
    (tmp_path / "kek").chmod(0o640)
    with pytest.raises(Unavailable):
        FileWrapper(tmp_path / "kek")
    (tmp_path / "kek").chmod(0o600)
    (tmp_path / "kek").write_text("something else\n")
    with pytest.raises(Unavailable):
        FileWrapper(tmp_path / "kek")


def backed_up(store: KeyStore) -> io.BytesIO:
    """A backup under a key of zeros."""
    out = io.BytesIO()
    write_backup(store, bytes(32), out)
    out.seek(0)
    return out


def test_a_backup_brings_lost_keys_back(store: KeyStore, tmp_path: Path) -> None:
    """Into an empty store with the same wrapping keys; a second time changes nothing."""
    texts = store.provide(ORIGIN, 0, 2100)
    content = store.provide_content(ORIGIN, "c")
    copy = FileKeys.create(tmp_path / "copy.db", store.wrapper)
    file = backed_up(store)
    done = restore_backup(copy, bytes(32), file)
    assert (done.keys, done.destroyed, done.refused) == (2101, 0, 0)
    assert (copy.provide(ORIGIN, 0, 2100), copy.find_content(ORIGIN, "c")) == (texts, content)
    file.seek(0)
    assert restore_backup(copy, bytes(32), file).keys == 0
    copy.close()


def test_a_backup_raises_nothing_from_the_dead(store: KeyStore, tmp_path: Path) -> None:
    """Destroyed by the store's word, by a later backup's or by the log's: the key stays away."""
    for name in ("store", "file", "log", "alive"):
        store.provide_content(ORIGIN, name)
    old = backed_up(store)
    store.destroy_content(ORIGIN, "store", **NOTE)  # type: ignore[arg-type]
    by_log = Destroyed(origin=ORIGIN, name=content_key_name("log"), **NOTE)  # type: ignore[arg-type]
    done = restore_backup(store, bytes(32), old, [by_log])
    assert (done.keys, done.destroyed, done.refused) == (-1, 1, 2)
    for name in ("store", "log"):
        with pytest.raises(KeyDestroyed):
            store.find_content(ORIGIN, name)
    store.destroy_content(ORIGIN, "file", **NOTE)  # type: ignore[arg-type]
    copy = FileKeys.create(tmp_path / "copy.db", store.wrapper)
    old.seek(0)
    restore_backup(copy, bytes(32), old)
    assert copy.find_content(ORIGIN, "file")
    restore_backup(copy, bytes(32), backed_up(store))
    for name in ("store", "file", "log"):
        with pytest.raises(KeyDestroyed):
            copy.find_content(ORIGIN, name)
    assert copy.find_content(ORIGIN, "alive") == store.find_content(ORIGIN, "alive")
    assert list(copy.faults()) == []
    copy.close()


def test_a_forgotten_wrapping_key_ends_older_backups(
    store: KeyStore, wrapper: FileWrapper, tmp_path: Path
) -> None:
    """After a destruction and a rotation the old file brings back rows that nothing opens."""
    store.provide_content(ORIGIN, "c")
    old, former = backed_up(store), wrapper.current
    store.destroy_content(ORIGIN, "c", **NOTE)  # type: ignore[arg-type]
    wrapper.renew()
    store.rewrap()
    wrapper.forget(former)
    copy = FileKeys.create(tmp_path / "copy.db", wrapper)
    restore_backup(copy, bytes(32), old)
    with pytest.raises(NotFound, match="key-encryption"):
        copy.find_content(ORIGIN, "c")
    copy.close()


def test_a_damaged_backup_changes_nothing(tmp_path: Path, wrapper: FileWrapper) -> None:
    """A flipped bit, a missing end, an addition, a frame in another's place, another key."""
    store = FileKeys.create(tmp_path / "texts.db", wrapper)
    store.provide(ORIGIN, 0, 4100)
    whole = backed_up(store).getvalue()
    first = 53 + 4 + int.from_bytes(whole[53:57])
    second = first + 4 + int.from_bytes(whole[first : first + 4])
    swapped = whole[:53] + whole[first:second] + whole[53:first] + whole[second:]
    dropped = whole[:53] + whole[first:]
    flipped = bytearray(whole)
    flipped[-3] ^= 1
    copy = FileKeys.create(tmp_path / "copy.db", wrapper)
    damaged = [bytes(flipped), whole[:-20], whole[:-1], whole + b"x", swapped, dropped, b"", b"x"]
    for data in damaged:
        with pytest.raises(IntegrityAlarm):
            restore_backup(copy, bytes(32), io.BytesIO(data))
    with pytest.raises(IntegrityAlarm):
        list(read_backup(b"1" * 32, io.BytesIO(whole)))
    assert copy.count().by_kek == {}
    store.close()
    copy.close()


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KeyWrapper]:
    """A SoftHSM token with its first key-encryption key."""
    program = require_tool("softhsm2-util")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm.conf").write_text(
        f"directories.tokendir = {tmp_path / 'tokens'}\nobjectstore.backend = file\n"
    )
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm.conf"))
    subprocess.run(
        [
            *(str(program), "--init-token", "--free", "--label", tmp_path.name[-32:]),
            *("--pin", "1234", "--so-pin", "5678"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    with pytest.raises(NotFound):
        TokenWrapper(SOFTHSM, tmp_path.name[-32:], "1234")
    opened = TokenWrapper(SOFTHSM, tmp_path.name[-32:], "1234", create=True)
    yield opened
    opened.close()
    shutil.rmtree(tmp_path / "tokens")


def test_a_hardware_module_wraps_keys(tmp_path: Path, token: TokenWrapper) -> None:
    """Kept, found, moved and refused like those of a file, and rotated inside the module."""
    store = FileKeys.create(tmp_path / "texts.db", token)
    keys = store.provide(ORIGIN, 0, 20)
    assert store.find(ORIGIN, 0, 20) == dict(enumerate(keys))
    [kek] = store.count().by_kek
    wrapped = token.wrap(kek, keys[0], b"place")
    with pytest.raises(IntegrityAlarm):
        token.unwrap(kek, wrapped, b"another place")
    with pytest.raises(IntegrityAlarm):
        token.unwrap(kek, wrapped[:-1] + b"\0", b"place")
    renewed = token.renew()
    assert (kek, renewed) == ("fengni-kek-000001", "fengni-kek-000002")
    assert store.rewrap() == 20
    token.forget(kek)
    assert store.provide(ORIGIN, 0, 20) == keys
    with pytest.raises(NotFound):
        token.unwrap(kek, wrapped, b"place")
    store.close()
