"""The zygote: a small process that has loaded the decoders and forks for each job.

Does: loads OpenCV, exifread and the C2PA bindings once, cuts itself off from the network, then
waits for orders; each order is done by a forked child under `confine`, and when the child has
ended the zygote says how. Refuses threads (a fork copies one thread only), reading of content
(children do), and to live on without the service: when its socket closes it ends, and its
children with it.

Procedure:

1. load the decoders and try them on a picture of their own, so that nothing is loaded later;
2. leave the network;
3. take an order with two descriptors, the content and the answer's socket;
4. fork; the child closes everything else, confines itself, does the job, ends;
5. when a child ends, or its time is up, say so on its answer's socket.

    python -m service.captures.zygote FD
"""

import contextlib
import gc
import io
import json
import logging
import os
import resource
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import cv2
import numpy as np

from evidence.media.inspection import inspect, preview
from service.captures import frames, jobs
from service.captures.confine import Limits, confine, cut_network

# An order holds the trust anchors, which the sandbox bounds; below a socket's buffer.
ORDER_BYTES = 160 * 1024
_FILE_FD, _ANSWER_FD = 3, 4
# What a child gets beyond its own alarm before the zygote ends it.
GRACE_S = 0.05


@dataclass(slots=True, kw_only=True)
class _Child:
    """One running job: where its end is told, and when it must have ended (monotonic, s)."""

    answer: socket.socket
    deadline_s: float
    started_s: float
    overdue: bool = False


def main(control_fd: int) -> None:
    """Serve orders until the service closes its end.

    Args:
        control_fd: a connected Unix socket, SOCK_SEQPACKET.
    """
    control = socket.socket(fileno=control_fd)
    warm_up()
    isolation = cut_network()
    gc.collect()
    gc.freeze()
    wakeup_read, wakeup_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakeup_write)
    signal.signal(signal.SIGCHLD, _awake)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service, which closes us
    children: dict[int, _Child] = {}
    control.send(b"ready")
    while True:
        ready, _, _ = select.select([control, wakeup_read], [], [], _patience_s(children))
        if wakeup_read in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wakeup_read, 4096)
        _bury(children)
        _end_overdue(children)
        if control in ready and not _take_order(control, children, isolation):
            break
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _awake(_number: int, _frame: object) -> None:
    """Do nothing: the signal only has to end the wait (SIG_IGN would reap unseen)."""


def warm_up() -> None:
    """Use every decoder once, so that children find all modules and codecs loaded."""
    logging.disable(logging.CRITICAL)
    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    picture = np.zeros((48, 64, 3), np.uint8)
    for kind in (".jpg", ".png", ".webp", ".tiff"):
        done, encoded = cv2.imencode(kind, picture)
        if done:
            stream = io.BytesIO(encoded.tobytes())
            inspect(stream, len(encoded), "image/jpeg").to_json()
            preview(stream)
    for encoding in ("utf-16-le", "utf-16-be", "latin-1"):  # what XML may name
        b"".decode(encoding)


def _patience_s(children: dict[int, _Child]) -> float | None:
    """Return how long to wait: until the next child is overdue."""
    if not children:
        return None
    deadlines = (child.deadline_s for child in children.values() if not child.overdue)
    return max(0.0, min(deadlines, default=time.monotonic() + 1) - time.monotonic())


def _take_order(control: socket.socket, children: dict[int, _Child], isolation: list[str]) -> bool:
    """Take one order and fork for it; False when the service has gone."""
    raw, descriptors, _, _ = socket.recv_fds(control, ORDER_BYTES, 2)
    if not raw:
        return False
    order = cast("dict[str, Any]", json.loads(raw))
    limits = Limits(**order["limits"])
    file_fd, answer_fd = descriptors
    now = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _live(order, limits, file_fd, answer_fd, isolation)
    os.close(file_fd)
    children[pid] = _Child(
        answer=socket.socket(fileno=answer_fd),
        started_s=now,
        deadline_s=now + limits.wall_s + GRACE_S,
    )
    return True


def _live(
    order: dict[str, Any], limits: Limits, file_fd: int, answer_fd: int, isolation: list[str]
) -> NoReturn:
    """Be the child: close everything, go behind the walls, do the job, end."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _keep_only(file_fd, answer_fd)
        answer = socket.socket(fileno=_ANSWER_FD)
        file = os.fdopen(_FILE_FD, "rb", buffering=256 * 1024)
        achieved = [*confine(limits), *isolation]
        frames.send(answer, frames.ISOLATION, json.dumps({"isolation": achieved}).encode())
        jobs.run(order, file, answer)
        status = 0
    except MemoryError:
        status = frames.MEMORY_EXIT
    finally:
        os._exit(status)


def _keep_only(file_fd: int, answer_fd: int) -> None:
    """Close every descriptor but the content (3) and the answer (4); 0 to 2 lead nowhere."""
    spare = [os.dup2(fd, 100 + at) for at, fd in enumerate((file_fd, answer_fd))]
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(nowhere, fd)
    for fd, source in zip((_FILE_FD, _ANSWER_FD), spare, strict=True):
        os.dup2(source, fd)
    os.closerange(_ANSWER_FD + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def _bury(children: dict[int, _Child]) -> None:
    """Tell how each child that has ended did end."""
    while children:
        pid, status, usage = os.wait4(-1, os.WNOHANG)
        if pid == 0:
            return
        child = children.pop(pid)
        end = {
            "exit": os.waitstatus_to_exitcode(status),
            "overdue": child.overdue,
            "wall_ms": round((time.monotonic() - child.started_s) * 1000),
            "cpu_ms": round((usage.ru_utime + usage.ru_stime) * 1000),
            "peak_kib": usage.ru_maxrss,
        }
        with child.answer, contextlib.suppress(OSError):  # the service may have given up
            child.answer.send(frames.DONE + json.dumps(end).encode(), socket.MSG_DONTWAIT)


def _end_overdue(children: dict[int, _Child]) -> None:
    """Kill what its own alarm did not end."""
    for pid, child in children.items():
        if not child.overdue and time.monotonic() >= child.deadline_s:
            child.overdue = True
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]))
