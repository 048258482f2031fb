"""Files on their way out: read in threads beside the event loop.

Does: gives a file piece by piece, and lets go of it however the answer ends. Refuses to close a
file while a thread is reading it: that would hand its descriptor to the next file, or crash.
"""

import asyncio
from collections.abc import AsyncIterator, Generator
from typing import BinaryIO

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
