"""Which tools read a file: name, version, and the digest of what is installed.

Does: hashes the files of an installed distribution, so that a reviewer can fetch the same
artifact and run it again. Refuses to trust the installer's own list of digests: the files are
read.

    Artifact(name="exifread", version="3.5.1", sha256="…")
"""

import hashlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

DISTRIBUTIONS = ("exifread", "defusedxml", "opencv-python-headless", "numpy", "c2pa-python")


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One tool.

    Attributes:
        name: the distribution's name, lowercase.
        version: its version.
        sha256: digest over the lines `digest  path` of its files, sorted by path; 64 hex digits.
    """

    name: str
    version: str
    sha256: str


def installed_artifacts() -> tuple[Artifact, ...]:
    """Return the tools of an inspection; reads some 200 MB, so it is asked once."""
    own = Path(__file__).resolve().parent.parent.parent / "evidence" / "media"
    ours = {
        path.relative_to(own.parent.parent).as_posix(): path for path in sorted(own.rglob("*.py"))
    }
    foreign = [_distribution(name) for name in DISTRIBUTIONS]
    version = metadata.version("fengni")
    return (*foreign, Artifact(name="fengni-media", version=version, sha256=_digest(ours)))


def _distribution(name: str) -> Artifact:
    distribution = metadata.distribution(name)
    files = {
        str(file): Path(str(distribution.locate_file(file)))
        for file in distribution.files or ()
        if not file.parts[0].endswith(".dist-info")
        and file.parts[0] != ".."  # scripts that the installer writes
        and file.suffix != ".pyc"
    }
    return Artifact(name=name, version=distribution.version, sha256=_digest(files))


def _digest(files: dict[str, Path]) -> str:
    """Return one digest over named files, in the form that `sha256sum` prints."""
    lines = (f"{_file_digest(path)}  {name}\n" for name, path in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
