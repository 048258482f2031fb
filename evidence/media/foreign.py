"""The one door through which other people's parsers are called.

Does: turns whatever a foreign parser raises into `MediaInvalid`. Refuses to let any other
exception out: exifread alone raises seven undeclared kinds on real broken files
(UnicodeDecodeError, AssertionError, EOFError, IndexError, struct.error, …).

    tags = guarded("exifread", lambda: exifread.process_file(block, details=False))
"""

from collections.abc import Callable
from typing import TypeVar

from evidence.errors import EvidenceError, MediaInvalid

_T = TypeVar("_T")


def guarded(parser: str, call: Callable[[], _T]) -> _T:
    """Call a foreign parser.

    Args:
        parser: its name, for the sentence.
        call: the call, without arguments.

    Returns:
        What the parser returns, still to be distrusted.

    Raises:
        MediaInvalid: the parser raised anything at all. The sentence names the kind of the
            exception and never its text, which may quote the file. `MemoryError` counts as
            the file's fault: the child that parses has a limit.
    """
    try:
        return call()
    except EvidenceError:
        raise
    except Exception as error:  # undeclared ones are what this door is for
        raise MediaInvalid(f"{parser} gave up: {type(error).__name__}.") from error
