"""`fengni export`: have a package made and fetch it whole or not at all.

Does: asks for the package, waits until it is made, writes it beside its final name and renames it
once its length and digest are those that the server named. Refuses to leave half a package under
the name that the person chose, to replace a file unless that is asked for, and to touch what is no
regular file: a device, a pipe, a folder, a symbolic link. Whether the package proves anything is
the verifier's question.
"""

import os
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec

from evidence.digest import Hasher, Measured
from evidence.errors import EvidenceError
from service.client.api import Api
from service.client.failures import Misused, ServerRefused, Undecided, Unwritten
from service.private_files import sync_folder

_POLL_S = 0.25
_KINDS = {
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFSOCK: "a socket",
}


class _Export(msgspec.Struct, frozen=True):
    """What a client reads of an export."""

    id: str
    state: str
    package: str
    sha256: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exporter:
    """Everything that an export needs.

    Attributes:
        api: the server.
        wait_s: how long to wait until the package is made, in seconds.
        fetched: told the length of each piece that arrived.
        pause: how to wait between two questions.
    """

    api: Api
    wait_s: float
    fetched: Callable[[int], object]
    pause: Callable[[float], None] = field(default=time.sleep)

    def export(self, captures: Sequence[str], out: Path, *, replace: bool = False) -> Measured:
        """Fetch the package of these captures into a file.

        Args:
            captures: statement ids, 64 hex digits each.
            out: the file; nothing is there yet, or a regular file that may be replaced.
            replace: replace it, in one step.

        Returns:
            Digest and length of the file.

        Raises:
            ServerRefused: the server does not export them, or could not make the package.
            Undecided: it was not made in time, or not fetched whole; call again.
            Misused: there is no place of that name, or something is there that stays.
            Unwritten: the disk refused; nothing is left of the package.
        """
        require_place(out, replace=replace)  # before the server states an export
        made = self._made(self.api.post("/v1/exports", {"captures": list(captures)}, _Export))
        staged = out.with_name(f".{out.name}.{os.getpid()}")
        try:
            with staged.open("xb") as file:
                measured = self._fetch(made.package, file)
            if made.sha256 is not None and made.size_bytes is not None:
                measured.require(sha256=made.sha256, size_bytes=made.size_bytes)
            require_place(out, replace=replace)
            staged.replace(out)
            sync_folder(out.parent)
        except EvidenceError as error:
            raise Undecided("The package was not fetched whole; try again.") from error
        except OSError as error:
            raise Unwritten(f"{out} cannot be written: {error.strerror}.") from error
        finally:
            with suppress(OSError):
                staged.unlink(missing_ok=True)
        return measured

    def _made(self, export: _Export) -> _Export:
        deadline = time.monotonic() + self.wait_s
        while export.state == "pending":
            if time.monotonic() > deadline:
                raise Undecided(f"The package was not made within {self.wait_s:.0f} s; try again.")
            self.pause(_POLL_S)
            export = self.api.get(f"/v1/exports/{export.id}", _Export)
        if export.state != "ready":
            raise ServerRefused(
                "The server could not make the package: something that it holds is damaged or"
                " missing. `fengni doctor` and `fengni log fsck` tell what.",
                status=409,
                code=f"export_{export.state}",
            )
        return export

    def _fetch(self, path: str, file: BinaryIO) -> Measured:
        hasher = Hasher()
        with self.api.stream(path) as response:
            for piece in response.iter_bytes():
                file.write(piece)
                hasher.update(piece)
                self.fetched(len(piece))
        file.flush()
        os.fsync(file.fileno())
        return hasher.measured()


def require_place(out: Path, *, replace: bool) -> None:
    """Let a name pass under which a package may be put.

    Args:
        out: the name.
        replace: whether a regular file of that name may be replaced.

    Raises:
        Misused: its folder is not there, it is there already, or it is no regular file.
    """
    if not out.parent.is_dir():
        raise Misused(f"{out.parent} is not a folder.")
    try:
        kind = stat.S_IFMT(out.lstat().st_mode)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Misused(f"{out} cannot be written: {error.strerror}.") from error
    if kind != stat.S_IFREG:
        raise Misused(f"{out} is {_KINDS.get(kind, 'no file')}; name a file.")
    if not replace:
        raise Misused(f"{out} is there already; --force replaces it.")
