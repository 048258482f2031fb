"""`fengni init`: what it makes belongs to one account, whatever that account's umask."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.cli import run


@pytest.fixture
def open_umask() -> Iterator[None]:
    """What most accounts have: others may read what they make."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_nobody_else_reads_what_init_makes(tmp_path: Path) -> None:
    """No folder is entered, and no database, key or text key is read, by others."""
    folder = tmp_path / "deployment"
    assert run(["init", str(folder), "--organ", "county", "--origin", "example.org/county"]) == 0
    found = {
        path.relative_to(folder).as_posix(): path.stat().st_mode & 0o077
        for path in folder.rglob("*")
        if path.is_dir() or path.parent.name in {"db", "text-keys", "keys"}
    }
    assert {"db", "db/fengni.db", "text-keys", "keys"} <= set(found)
    assert {name: mode for name, mode in found.items() if mode} == {}
    assert folder.stat().st_mode & 0o077 == 0
