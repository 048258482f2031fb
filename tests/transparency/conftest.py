"""Fixtures: a witness in a fresh folder that knows one small log."""

import shutil
from pathlib import Path

import pytest

from service.transparency.cosigning import Witness
from service.transparency.witness import create_witness, open_witness
from tests.transparency.small_log import LOG, NAME, Clock


def copy_folder(source: Path, target: Path) -> Path:
    """Copy a folder with its modes: making one anew syncs every file to the disk."""
    shutil.copytree(source, target)
    return target


@pytest.fixture
def clock() -> Clock:
    """Return a clock at NOW."""
    return Clock()


@pytest.fixture(scope="session")
def new_witness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a witness that was made and never asked; copy it."""
    folder = tmp_path_factory.mktemp("witness") / "new"
    create_witness(folder, NAME, LOG.vkeys)
    return folder


@pytest.fixture
def folder(tmp_path: Path, new_witness: Path) -> Path:
    """Return the folder of a new witness that knows LOG."""
    return copy_folder(new_witness, tmp_path / "west")


@pytest.fixture
def witness(folder: Path, clock: Clock) -> Witness:
    """Return the witness of that folder."""
    return open_witness(folder, clock)
