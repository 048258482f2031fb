"""Standard output and standard error, watched while a command runs.

Does: makes one failure of whatever keeps a result from being written (a full disk, a reader who
has gone, a closed stream), for every command and for `--help`; writes characters that the terminal
lacks as escapes. Refuses to let a result be lost in silence, or to end a command because a remark
beside it could not be written.
"""

import io
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import TextIO, cast

from service.client.failures import Unwritten


@contextmanager
def watched_streams() -> Generator[None]:
    """Watch both streams for as long as the block runs.

    Raises:
        Unwritten: within the block, wherever standard output is written to and refuses.
    """
    streams = cast("tuple[TextIO | None, TextIO | None]", (sys.stdout, sys.stderr))
    out, err = streams  # None where the caller closed it
    sys.stdout = cast("TextIO", _Results(out))
    sys.stderr = cast("TextIO", _Watched(err))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = cast("tuple[TextIO, TextIO]", streams)


class _Watched:
    """A text stream that goes on without what it cannot write."""

    def __init__(self, stream: TextIO | None) -> None:
        """Watch a stream; None is one that takes nothing."""
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):
            terminal = cast("io.TextIOWrapper[io.BufferedWriter]", stream)
            terminal.reconfigure(errors="backslashreplace")  # names are in any script

    @property
    def encoding(self) -> str:
        """Of the stream, for those who choose signs by it."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write, or tell why not."""
        if self._stream is None:
            self._tell("it is closed")
        else:
            try:
                return self._stream.write(text)
            except OSError as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Write what is held back, or tell why not."""
        if self._stream is not None:
            try:
                self._stream.flush()
            except OSError as error:
                self._give_up(error)

    def isatty(self) -> bool:
        """Whether a person looks at it."""
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        """The stream's descriptor."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def writable(self) -> bool:
        """It is there to be written to."""
        return True

    def _give_up(self, error: OSError) -> None:
        stream, self._stream = self._stream, None
        with suppress(OSError):
            cast("TextIO", stream).close()  # else the interpreter tries again at its end
        self._tell(error.strerror or "it takes nothing")

    def _tell(self, reason: str) -> None:
        """Nobody can be told; the exit status still says how the command ended."""


class _Results(_Watched):
    def _tell(self, reason: str) -> None:
        raise Unwritten(f"The result could not be written: {reason}.")
