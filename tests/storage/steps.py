"""Watch the system calls of a block of code, and fail or die just before a chosen one.

The calls are the real ones: a wrapper around `os` writes down what is asked for and hands it on.
"""

import errno
import os
import signal
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

WATCHED = (
    "fchmod",
    "fsync",
    "link",
    "listdir",
    "mkdir",
    "open",
    "preadv",
    "rename",
    "rmdir",
    "scandir",
    "stat",
    "truncate",
    "unlink",
    "write",
)

Before = Callable[[int, str], None]
"""Called with the number of the step, from 0, and its name, before it is done."""


def nothing(number: int, step: str) -> None:
    """Let every step happen."""


def fail_at(chosen: int, code: int) -> Before:
    """Refuse one step as a disk would."""

    def before(number: int, step: str) -> None:
        if number == chosen:
            raise OSError(code, f"{os.strerror(code)} at {step}")

    return before


def fail_on(chosen: str, code: int) -> Before:
    """Refuse every step of one name."""

    def before(_: int, step: str) -> None:
        if step == chosen:
            raise OSError(code, f"{os.strerror(code)} at {step}")

    return before


def die_at(chosen: int) -> Before:
    """End the process before one step, as `kill -9` would."""

    def before(number: int, _: str) -> None:
        if number == chosen:
            os.kill(os.getpid(), signal.SIGKILL)

    return before


@contextmanager
def watched(before: Before = nothing, *, unnamed_files: bool = True) -> Generator[list[str]]:
    """Record the steps of the block as names such as `fsync folder`, in order.

    What `before` itself asks of the system is no step.

    Args:
        before: may raise or kill.
        unnamed_files: False makes the file system one that has none (no O_TMPFILE).
    """
    steps: list[str] = []
    real = {name: getattr(os, name) for name in WATCHED}
    inside = False

    def wrapper(name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever `os` takes
            if name == "open" and not unnamed_files and args[1] & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, "no unnamed files here")
            nonlocal inside
            if inside:
                return real[name](*args, **kwargs)
            step = name
            if name == "fsync":
                kind = "folder" if stat.S_ISDIR(os.fstat(args[0]).st_mode) else "file"
                step = f"fsync {kind}"
            steps.append(step)
            inside = True
            try:
                before(len(steps) - 1, step)
            finally:
                inside = False
            return real[name](*args, **kwargs)

        return call

    try:
        for name in WATCHED:
            setattr(os, name, wrapper(name))
        yield steps
    finally:
        for name, function in real.items():
            setattr(os, name, function)
