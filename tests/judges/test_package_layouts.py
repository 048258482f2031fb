"""What stock tools extract from a file with two archives: the reason for the one layout."""

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.evidence.package_maker import PHOTO
from tests.tools import GO_CACHE, ROOT, require_tool
from tests.vectors.packages.regenerate import OTHER_PHOTO

VECTORS = ROOT / "tests" / "vectors" / "packages"
SOURCE = ROOT / "tests" / "judges" / "go" / "zipjudge" / "main.go"


@pytest.fixture(scope="module")
def photo() -> str:
    """Name of the photo that is another one in the second archive."""
    names = zipfile.ZipFile(VECTORS / "good.zip").namelist()
    return next(name for name in names if "/data/originals/" in name)


@pytest.fixture(scope="module")
def zipjudge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that extracts with the ZIP reader of Go's standard library."""
    folder = tmp_path_factory.mktemp("zipjudge")
    environment = os.environ | {
        "GOCACHE": str(GO_CACHE),
        "CGO_ENABLED": "0",
        "GOPATH": str(folder / "path"),
        "GOPROXY": "off",
        "GOTOOLCHAIN": "local",
    }
    program = folder / "zipjudge"
    command = [require_tool("go"), "build", "-o", program, SOURCE]
    subprocess.run(command, cwd=folder, env=environment, check=True)
    return program


@pytest.mark.parametrize(
    ("name", "in_go", "in_python"),
    [
        ("good", PHOTO, PHOTO),
        ("second-directory", OTHER_PHOTO, PHOTO),
        ("second-archive-in-front", PHOTO, PHOTO),
    ],
)
def test_two_readers_find_two_photos(
    zipjudge: Path, photo: str, name: str, in_go: bytes, in_python: bytes
) -> None:
    """Go reads the plain directory and Python that of ZIP64; our verifier refuses the file."""
    path = VECTORS / f"{name}.zip"
    done = subprocess.run([zipjudge, path, photo], capture_output=True, check=True, timeout=60)
    with zipfile.ZipFile(path) as archive:
        assert (in_go, in_python) == (done.stdout, archive.read(photo))


def test_who_reads_from_the_beginning_finds_the_archive_in_front(photo: str) -> None:
    """A reader of streams meets the other photo's header before that of the good one."""
    data = (VECTORS / "second-archive-in-front.zip").read_bytes()
    header = data.index(photo.encode())  # the first local header of that name
    assert data[header + len(photo) :].startswith(OTHER_PHOTO)
