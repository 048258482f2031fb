"""Where made packages lie until they expire: beside the node, or in staging that nodes share.

    <folder>/<export>.zip            where staging is this machine's own
    package-<export>                 in staging, where other nodes stage there too: the node that
                                     is asked for a package need not be the one that made it

Does: keeps, opens and removes them. Refuses to know who may have them, or when they expire.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from service.private_files import sync_folder
from service.stores import PACKAGE_PREFIX
from storage.durable import disk_errors
from storage.errors import NotFound
from storage.objects import Staged
from storage.staging import Staging

_PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package that was made.

    Attributes:
        export: id of its export.
        sha256: of its bytes, 64 hex digits.
        size_bytes: how many there are.
    """

    export: str
    sha256: str
    size_bytes: int


class Packages:
    """The packages of one deployment. Threads may share it."""

    def __init__(self, folder: Path, staging: Staging) -> None:
        """Prepare.

        Args:
            folder: of this node, in which packages are made.
            staging: where they are handed to other nodes, if they stage there too.
        """
        self._folder = folder
        self._staging = staging if staging.shared else None

    def draft(self, export: str) -> Path:
        """Where the package of an export is made."""
        return self._folder / f"{export}.part"

    def keep(self, package: Package) -> None:
        """Take a draft that is complete and synced; the same one again is success.

        Raises:
            DiskReserveReached, Unavailable: it was not taken, and the draft is still there.
        """
        draft = self.draft(package.export)
        if self._staging is None:
            with disk_errors("keeping a package"):
                draft.replace(self._path(package))
                sync_folder(self._folder)
            return
        with (
            disk_errors("reading a package"),
            draft.open("rb") as made,
            self._staging.begin(_key(package), package.size_bytes) as writer,
        ):
            while piece := made.read(_PIECE_BYTES):
                writer.write(piece)
            writer.finish()
        draft.unlink()

    def open(self, package: Package) -> BinaryIO:
        """Its bytes from the start; the caller closes it.

        Raises:
            NotFound: it is gone.
            Unavailable: the disk or the staging area does not answer.
        """
        if self._staging is not None:
            return self._staged(self._staging, package).open()
        with disk_errors("opening a package"):
            try:
                return self._path(package).open("rb")
            except FileNotFoundError as error:
                raise NotFound("the package is not there") from error

    def remove(self, package: Package) -> None:
        """Let go of it; one that is gone is success."""
        if self._staging is not None:
            self._staged(self._staging, package).consume()
            return
        with disk_errors("removing a package"):
            self._path(package).unlink(missing_ok=True)

    def here(self) -> list[str]:
        """Ids of the exports whose packages lie in this node's folder."""
        with disk_errors("listing packages"):
            return [path.stem for path in self._folder.glob("*.zip")]

    def remove_here(self, export: str) -> None:
        """Let go of what lies in this node's folder; nothing is success."""
        with disk_errors("removing a package"):
            (self._folder / f"{export}.zip").unlink(missing_ok=True)

    def _path(self, package: Package) -> Path:
        return self._folder / f"{package.export}.zip"

    def _staged(self, staging: Staging, package: Package) -> Staged:
        return staging.waiting(_key(package), package.sha256, package.size_bytes)


def _key(package: Package) -> str:
    return PACKAGE_PREFIX + package.export
