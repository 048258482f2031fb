"""What the confined process does: inspect a file, make a preview, or test its own walls.

Does: runs one job on descriptors that it was handed and writes the answer to its socket. The
probes attempt what a taken-over decoder would attempt, so that `doctor` and the tests see the
walls hold. Refuses to open anything, and to answer twice.

    run({"job": "inspect", "media_type": "image/jpeg", "size_bytes": 4}, file, answer)
"""

import ctypes
import errno
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from typing import BinaryIO, cast

from evidence.media.findings import Finding
from evidence.media.inspection import inspect_steps, preview
from service.captures import frames


def run(order: Mapping[str, object], file: BinaryIO, answer: socket.socket) -> None:
    """Do one job and send its answer.

    Args:
        order: `job` (inspect, preview or probe) with what it needs.
        file: the content, read-only.
        answer: where messages go.
    """
    match order["job"]:
        case "inspect":
            _inspect(order, file, answer)
        case "preview":
            made = preview(file)
            if isinstance(made, Finding):
                frames.send(answer, frames.REFUSAL, json.dumps(made.to_json()).encode())
            else:
                frames.send(answer, frames.PICTURE, made)
        case _:
            outcome = PROBES[str(order["probe"])]()
            frames.send(answer, frames.PROBED, json.dumps({"outcome": outcome}).encode())


def _inspect(order: Mapping[str, object], file: BinaryIO, answer: socket.socket) -> None:
    """Send the facts after each step: what was read before a decoder dies stays."""
    steps = inspect_steps(
        file,
        cast("int", order["size_bytes"]),
        str(order["media_type"]),
        trust_anchors=str(order.get("trust_anchors", "")),
    )
    sent = b""
    for facts in steps:
        raw = facts.to_json()
        if raw != sent:
            frames.send(answer, frames.FACTS, raw)
            sent = raw


def _refused(attempt: Callable[[], object]) -> str:
    """Name the error that an attempt ends in, or say that it was allowed."""
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "EUNKNOWN")
    return "allowed"


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _raw_socket_call() -> None:
    """Ask the kernel past Python and past the C library's wrappers."""
    libc = ctypes.CDLL(None, use_errno=True)
    numbers = {"x86_64": 41, "aarch64": 198}
    number = numbers.get(os.uname().machine, 41)
    if libc.syscall(number, socket.AF_INET, socket.SOCK_STREAM, 0) < 0:
        raise OSError(ctypes.get_errno(), "refused")


def _die(number: signal.Signals) -> str:
    signal.pthread_kill(threading.get_ident(), number)
    return "survived"


def _segfault() -> str:
    ctypes.string_at(0)
    return "survived"


def _spin() -> str:
    while True:
        pass


def _wait() -> str:
    threading.Event().wait(3600)
    return "survived"


def _devour() -> str:
    held: list[bytearray] = []
    while True:
        held.append(bytearray(16 * 1024 * 1024))


PROBES: dict[str, Callable[[], str]] = {
    "network": lambda: _refused(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)),
    "network_raw": lambda: _refused(_raw_socket_call),
    "local_socket": lambda: _refused(socket.socketpair),
    "open": lambda: _refused(lambda: os.open("/etc/passwd", os.O_RDONLY)),
    "create": lambda: _refused(lambda: os.open("fengni-probe", os.O_CREAT | os.O_WRONLY)),
    "exec": lambda: _refused(lambda: os.execv("/bin/true", ["true"])),  # noqa: S606  it must be refused
    "fork": lambda: _refused(_fork),
    "signal": lambda: _refused(lambda: os.kill(os.getppid(), signal.SIGTERM)),
    "cpu": _spin,
    "memory": _devour,
    "wait": _wait,
    "segfault": _segfault,
    "kill": lambda: _die(signal.SIGKILL),
    "abort": lambda: _die(signal.SIGABRT),
}
"""What can be attempted inside; the first eight answer with the error that they met."""
