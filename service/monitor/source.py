"""Where a monitor reads a log: its public files over HTTP, and nothing else.

Does: fetches checkpoint, tiles and entry bundles, each within a size and a time. Refuses
redirects, longer files than the format allows, and to call a server that does not answer a server
that lacks a file.

Source: C2SP tlog-tiles.
"""

import time
from types import TracebackType
from typing import Self

import httpx

from evidence.tlog.tiles import TILE_WIDTH, TileName

TIMEOUT_S = 20.0
MAX_CHECKPOINT_BYTES = 256 * 1024
MAX_TILE_BYTES = TILE_WIDTH * 32
MAX_BUNDLE_BYTES = TILE_WIDTH * (2 + 4096)  # our entries have at most 1,024 bytes


class Unreachable(Exception):
    """The log did not answer, or not in a way that says anything: ask again later."""


class Absent(Exception):
    """The log answers that it has no such file; `path` is below its address."""

    def __init__(self, path: str) -> None:
        """Keep the path."""
        super().__init__(path)
        self.path = path


class Source:
    """One log's address. Use it as a context manager."""

    def __init__(self, url: str, token: str | None = None) -> None:
        """Prepare; nothing is asked yet.

        Args:
            url: prefix of the log, as C2SP tlog-tiles means it.
            token: bearer token, for a log whose tiles are not public.
        """
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(
            base_url=url.rstrip("/") + "/", timeout=TIMEOUT_S, trust_env=False, headers=headers
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def checkpoint(self) -> bytes:
        """The newest published checkpoint.

        Raises:
            Absent: nothing is published.
            Unreachable: no answer.
        """
        return self._get("checkpoint", MAX_CHECKPOINT_BYTES)

    def file(self, name: TileName) -> bytes:
        """A tile or an entry bundle, as it is handed out.

        Raises:
            Absent: it is not there.
            Unreachable: no answer.
        """
        limit = MAX_BUNDLE_BYTES if name.level is None else MAX_TILE_BYTES
        return self._get(name.path(), limit)

    def _get(self, path: str, limit: int) -> bytes:
        deadline = time.monotonic() + TIMEOUT_S
        found = bytearray()
        try:
            with self._http.stream("GET", path) as answer:
                if answer.status_code in (404, 410):
                    raise Absent(path)
                if answer.status_code != 200:
                    raise Unreachable(f"The log answers with status {answer.status_code}.")
                for piece in answer.iter_bytes():
                    found += piece
                    if len(found) > limit:
                        break  # longer than it can be: whoever reads it says so
                    if time.monotonic() > deadline:
                        raise Unreachable("The log answers too slowly.")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable("The log does not answer.") from error
        return bytes(found)
