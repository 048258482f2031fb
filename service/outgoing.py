"""Files on their way out: what of them is asked for, and reading beside the event loop.

Does: reads the headers of conditional and range requests (RFC 9110 sections 13 and 14); gives a
file piece by piece, and lets go of it however the answer ends. Refuses to close a file while a
thread is reading it: that would hand its descriptor to the next file, or crash.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Generator
from http import HTTPStatus
from typing import BinaryIO

from litestar import Response
from litestar.datastructures import Headers

from service.problems import Problem

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
Pieces = Generator[bytes, None, None]


class Outgoing:
    """One file on its way out. Its state belongs to the event loop's thread.

    Whoever begins an answer with it also has it closed at the request's end: an answer that is
    cut off drops its iterator without a word.
    """

    def __init__(self, stream: BinaryIO, source: Pieces) -> None:
        """Read nothing yet.

        Args:
            stream: the file.
            source: reads it, piece by piece.
        """
        self._stream = stream
        self._source = source
        self._reading: asyncio.Future[bytes | None] | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Each piece is read in a thread; a read that began is never cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._reading = loop.run_in_executor(None, self._read)
            await asyncio.wait([self._reading])  # cancels nothing when it is cancelled itself
            piece = self._reading.result()
            if piece is None:
                return
            yield piece

    def close(self) -> None:
        """Close the file, or have it closed when the read that runs has ended; never waits."""
        if self._reading is None:
            self._stream.close()
        else:
            self._reading.add_done_callback(self._let_go)

    def _read(self) -> bytes | None:
        return next(self._source, None)

    def _let_go(self, reading: "asyncio.Future[bytes | None]") -> None:
        if not reading.cancelled():
            reading.exception()  # nobody else may be left to hear of it
        self._source.close()
        self._stream.close()


def tag_of(sha256: str) -> str:
    """The entity tag of bytes with this digest."""
    return f'"{sha256}"'


def require_match(headers: Headers, sha256: str | None) -> None:
    """Let a request pass that wants these very bytes, or does not say which it wants.

    It comes before every other condition and before the range. Weak tags never match, nor does a
    header that holds no tag. `If-Unmodified-Since` is not looked at: no answer has a date of
    modification, and then it must not be.

    Args:
        headers: of the request.
        sha256: digest of the bytes; None for what has no tag, which only `*` matches.

    Raises:
        Problem: `precondition_failed`.

    Source: RFC 9110 sections 13.1.1, 13.1.4 and 13.2.2.
    """
    if "if-match" not in headers:
        return
    given = ",".join(headers.getall("if-match"))
    strong = {tag for weak, tag in _TAG.findall(given) if not weak}
    if given.strip() != "*" and (sha256 is None or tag_of(sha256) not in strong):
        raise Problem("precondition_failed", "None of the tags in If-Match is this content's.")


def not_modified(headers: Headers, sha256: str) -> Response[bytes] | None:
    """The answer 304 where the asker says that he has these bytes already, else None.

    It reveals nothing: he named the digest himself, or `*` for anything at all.

    Args:
        headers: of the request.
        sha256: digest of the bytes.

    Source: RFC 9110 sections 13.1.2 and 15.4.5.
    """
    given = ",".join(headers.getall("if-none-match", []))
    if given.strip() != "*" and tag_of(sha256) not in (tag for _, tag in _TAG.findall(given)):
        return None
    tag = {"etag": tag_of(sha256)}
    return Response(b"", status_code=HTTPStatus.NOT_MODIFIED, headers=tag)


def read_range(headers: Headers, sha256: str, size_bytes: int) -> tuple[int, int] | None:
    """The one range that is asked for, as (first, end); None where the whole is meant.

    Several ranges, other units and malformed headers mean the whole, as RFC 9110 allows, and so
    does `If-Range` with anything but the tag of these very bytes.

    Args:
        headers: of the request.
        sha256: digest of the whole.
        size_bytes: length of the whole.

    Raises:
        Problem: `range_refused`: nothing of the content lies in the range; it says how long it is.

    Source: RFC 9110 sections 13.1.5, 14.2 and 15.5.17.
    """
    if headers.get("if-range", tag_of(sha256)).strip() != tag_of(sha256):
        return None
    found = _RANGE.fullmatch(headers.get("range", "").strip())
    if not found or not (found[1] or found[2]):
        return None
    if found[1]:
        first, last = int(found[1]), int(found[2] or size_bytes - 1)
        if found[2] and last < first:
            return None
    else:
        first, last = max(0, size_bytes - int(found[2])), size_bytes - 1
    if first >= size_bytes or last < first:
        raise Problem(
            "range_refused",
            f"The content has {size_bytes} bytes.",
            headers={"content-range": f"bytes */{size_bytes}"},
        )
    return first, min(last, size_bytes - 1) + 1
