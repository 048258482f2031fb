"""Everything that can go wrong on the device's side, by what the person can do about it.

Each class has an exit code: 1 is a firm no, 2 means that nothing could be decided yet and the
same command may be given again, 64 that the command itself was wrong, 74 that what it found or
fetched could not be written.

    ClientFailure                 2
    ├── Misused                   64    a file, an option or the configuration is not usable
    ├── Undecided                 2     no network, no answer in time, a file in use
    ├── Unwritten                 74    the result, or the file it goes into, cannot be written
    ├── ServerRefused             1     the server answered with a problem document
    └── ReceiptRefused            1     the server's receipt does not hold under the known keys
"""

from typing import ClassVar


class ClientFailure(Exception):
    """The device could not do what it was asked.

    Attributes:
        detail: one sentence for a person.
        code: stable, for a program.
    """

    exit_code: ClassVar[int] = 2
    code: str = "undecided"

    def __init__(self, detail: str) -> None:
        """Keep the sentence.

        Args:
            detail: what happened and, where there is something, what to do next.
        """
        super().__init__(detail)
        self.detail = detail


class Misused(ClientFailure):
    """The command names something that is not there or not of the form that it needs."""

    exit_code = 64
    code = "misused"


class Undecided(ClientFailure):
    """Nothing was refused and nothing was confirmed; the same command may be given again."""


class Unwritten(ClientFailure):
    """The work is done, but what came of it could not be written where it should go."""

    exit_code = 74  # Source: sysexits of 4.3BSD, EX_IOERR
    code = "unwritten"


class ServerRefused(ClientFailure):
    """The server answered with a problem (RFC 9457).

    Attributes:
        status: the HTTP status.
        code: the stable code of the problem.
        retry_after_s: seconds after which the server wants to be asked again, where it says so.
    """

    exit_code = 1

    def __init__(
        self, detail: str, *, status: int, code: str, retry_after_s: float | None = None
    ) -> None:
        """Keep the sentence and what a program needs.

        Args:
            detail: the problem's title and detail.
            status: the HTTP status.
            code: the problem's code.
            retry_after_s: seconds, from the header `Retry-After`.
        """
        super().__init__(detail)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s

    @property
    def passing(self) -> bool:
        """Whether waiting may help: the server is busy or has not got so far."""
        return self.status >= 500 or self.retry_after_s is not None or self.code in _PASSING


class ReceiptRefused(ClientFailure):
    """What the server handed back as a receipt proves nothing; the bytes must be kept here."""

    exit_code = 1
    code = "receipt_refused"


_PASSING = frozenset({"upload_in_progress", "request_timeout"})
