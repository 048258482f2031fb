"""What is installed: the wheel holds the three packages with their data and no tests."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.tools import ROOT

IGNORED = {"__pycache__"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that was built from a copy of the tree, without the network."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("evidence", "storage", "service"):
        for source in (ROOT / name).rglob("*"):
            if source.is_file() and not IGNORED & set(source.parts):
                target = tree / source.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read_bytes())
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (tree / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(tree), str(tree)], check=True, capture_output=True)
    (built,) = tree.glob("fengni-*.whl")
    return built


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    """No module and no data file that the program reads is left out of an installation."""
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = {
        path.relative_to(ROOT).as_posix()
        for package in ("evidence", "storage", "service")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and not IGNORED & set(path.parts)
    }
    assert packed == sources


def test_the_wheel_carries_the_licence(wheel: Path) -> None:
    """Whoever gets the wheel gets the licence with it."""
    with zipfile.ZipFile(wheel) as archive:
        texts = [archive.read(name) for name in archive.namelist() if name.endswith("/LICENSE")]
    assert texts == [(ROOT / "LICENSE").read_bytes()]
