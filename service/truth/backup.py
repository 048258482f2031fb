"""`fengni backup`: a copy of a deployment that can be put back, made while it runs.

    1. heads            first, so that no head is ahead of the database beside it
    2. published files  before the text keys: a file's texts have their keys already
    3. data keys        wrapped, in a folder of their own: with these, the files, and what wraps the
                        keys, texts and sealed contents can be read; a server's are for
                        `fengni keys backup`, as are those that must outlive a disposal
    4. database         SQLite by its own online copy, one moment of it; a server's is for pg_dump
    5. objects          last: what the database and the files name is there; quarantine as well

Does: copies what is new into a folder, each file under a temporary name first and synced. Refuses
a folder inside the deployment, and to copy private keys: what signs is kept apart.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from service.data_keys import keys_url
from service.deployment_file import Places, database_url, read_deployment
from service.settings import Settings
from service.setup.databases import SetupRefused
from storage.db.engine import Database

STEPS = ("log", "database", "objects")
"""Of a backup, in their order; a database on a server is dumped between the first and the last."""


def copy_deployment(settings: Settings, target: Path, steps: tuple[str, ...]) -> dict[str, int]:
    """Copy a deployment, or one step of it.

    Args:
        settings: of the deployment.
        target: folder of this backup; made where it is not there.
        steps: of `STEPS`.

    Returns:
        How many files were copied, by folder.

    Raises:
        SetupRefused: the folder lies in the deployment.
        OSError: a file cannot be read or written.
    """
    deployment = read_deployment(settings)
    places = Places(settings.folder)
    if target.resolve().is_relative_to(settings.folder.resolve()):
        raise SetupRefused("A backup inside the deployment is lost with it; name another disk.")
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    copied: dict[str, int] = {}
    if "log" in steps:
        copied["heads"] = _mirror(settings.folder / "heads", target / "heads")
        copied["tiles"] = _mirror(settings.folder / "tiles", target / "tiles")
        if keys_url(settings, deployment) is None:
            copied["text-keys"] = _copy_sqlite(places.text_keys, target / "text-keys")
    if "database" in steps:
        path = _file_of(database_url(settings, deployment))
        copied["db"] = 0 if path is None else _copy_sqlite(path, target / "db")
    if "objects" in steps:
        if settings.objects == "local":
            copied["objects"] = _mirror(places.objects, target / "objects")
        copied["staging"] = _mirror(places.staging, target / "staging")
    return copied


def _file_of(url: str) -> Path | None:
    with closing(Database(url)) as db:
        return db.path


def _copy_sqlite(source: Path, folder: Path) -> int:
    """One moment of a database that is in use."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = folder / f".{source.name}.new"
    scratch.unlink(missing_ok=True)
    scratch.touch(mode=0o600)
    with (
        closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as held,
        closing(sqlite3.connect(scratch)) as copy,
    ):
        held.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
    _settle(scratch, folder / source.name)
    return 1


def _mirror(source: Path, target: Path) -> int:
    """Copy what is new or has changed; what has gone from the source stays in the copy.

    Files whose names may be replaced (a head, a checkpoint) are small and copied each time.
    """
    count = 0
    for path in _files(source):
        copy = target / path.relative_to(source)
        if copy.is_file() and path.name not in _REPLACED:
            there, ours = copy.stat(), path.stat()
            if (there.st_size, int(there.st_mtime)) == (ours.st_size, int(ours.st_mtime)):
                continue
        copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch = copy.with_name(f".{copy.name}.new")
        scratch.unlink(missing_ok=True)
        try:
            shutil.copy2(path, scratch)
        except FileNotFoundError:  # a partial form that a wider one has just replaced
            continue
        _settle(scratch, copy)
        count += 1
    for folder in _folders(source):
        (target / folder.relative_to(source)).mkdir(mode=0o700, parents=True, exist_ok=True)
    return count


_REPLACED = frozenset({"head", "checkpoint"})
_PASSING = frozenset({"tmp"})
"""Folders of files that have no name yet."""


def _files(source: Path) -> Iterator[Path]:
    """Every file, the published checkpoints first: nothing beside one may be older than it says.

    A checkpoint that is copied before its tiles points at files that are there by then.
    """
    found = [path for path in source.rglob("*") if path.is_file() and not _passes(path, source)]
    yield from sorted(found, key=lambda path: (path.name not in _REPLACED, path))


def _folders(source: Path) -> Iterator[Path]:
    yield from (path for path in source.rglob("*") if path.is_dir())


def _passes(path: Path, source: Path) -> bool:
    return bool(_PASSING & set(path.relative_to(source).parts[:-1]))


def _settle(scratch: Path, name: Path) -> None:
    with scratch.open("rb") as file:
        os.fsync(file.fileno())
    scratch.replace(name)
