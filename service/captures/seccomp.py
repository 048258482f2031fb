"""A filter for system calls: what a decoder may still ask of the kernel.

Does: builds a seccomp BPF program for x86_64 and aarch64 that allows memory, reading of files
that are already open, writing to the answer's socket, threads, clocks and exit, and refuses
everything else with EPERM: sockets, opening of files, new processes, signals to others,
tracing, and whatever a later kernel invents. Refuses to guess numbers for other machines.

    install(program("x86_64", os.getpid()))

Source: seccomp(2), linux/seccomp.h, linux/filter.h; numbers from the kernel's unistd headers.
"""

import ctypes
import errno
import struct
from dataclasses import dataclass
from typing import Literal

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x4000_0000  # x86_64 has a second table behind this bit; none of it is allowed
_ALLOW, _ERRNO = 0x7FFF_0000, 0x0005_0000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_CLONE_THREAD, _AT_EMPTY_PATH = 0x10000, 0x1000

# name: number on x86_64, number on aarch64 (None where the machine has no such call)
_NUMBERS: dict[str, tuple[int, int | None]] = {
    # memory
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214),
    "mremap": (25, 216), "madvise": (28, 233), "membarrier": (324, 283),
    # files that are already open
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "fstat": (5, 80), "lseek": (8, 62),
    "pread64": (17, 67), "readv": (19, 65), "writev": (20, 66), "fcntl": (72, 25),
    # threads: OpenCV's codecs and the C2PA library start some
    "futex": (202, 98), "set_robust_list": (273, 99), "rseq": (334, 293),
    "sched_yield": (24, 124), "sched_getaffinity": (204, 123), "set_tid_address": (218, 96),
    "sigaltstack": (131, 132), "epoll_create1": (291, 20), "epoll_ctl": (233, 21),
    "epoll_wait": (232, None), "epoll_pwait": (281, 22), "eventfd2": (290, 19),
    "poll": (7, None), "ppoll": (271, 73),
    # signals to itself, clocks, chance, end
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "getpid": (39, 172), "gettid": (186, 178), "clock_gettime": (228, 113),
    "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "nanosleep": (35, 101),
    "gettimeofday": (96, 169), "getrandom": (318, 278), "getrusage": (98, 165),
    "sysinfo": (99, 179), "uname": (63, 160), "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip
_CONDITIONAL: dict[str, tuple[int, int]] = {
    "clone": (56, 220), "clone3": (435, 435), "newfstatat": (262, 79), "statx": (332, 291),
    "tgkill": (234, 131),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Condition:
    """Allow a call only if the low half of an argument passes a test."""

    argument: int
    test: Literal["equals", "any_bit"]
    value: int


def is_supported(machine: str) -> bool:
    """Say whether there is a table for a machine, as `os.uname().machine` names it."""
    return machine in _ARCHITECTURES


def program(machine: str, pid: int) -> bytes:
    """Return the BPF program for one process.

    Args:
        machine: `x86_64` or `aarch64`.
        pid: the process that will run under it; it may signal its own threads only (abort).

    Returns:
        `struct sock_filter` records, 8 bytes each.
    """
    column = list(_ARCHITECTURES).index(machine)
    parts = [
        _step(_LOAD, _ARCHITECTURE_AT),
        _step(_EQUAL, _ARCHITECTURES[machine], yes=1),
        _refuse(errno.EPERM),
        _step(_LOAD, _NUMBER_AT),
        _step(_AT_LEAST, _X32_BIT, no=1),
        _refuse(errno.EPERM),
    ]
    for numbers in _NUMBERS.values():
        number = numbers[column]
        if number is not None:
            parts += [_step(_EQUAL, number, no=1), _step(_RETURN, _ALLOW)]
    conditions = {
        "clone": _Condition(argument=0, test="any_bit", value=_CLONE_THREAD),
        "newfstatat": _Condition(argument=3, test="any_bit", value=_AT_EMPTY_PATH),
        "statx": _Condition(argument=2, test="any_bit", value=_AT_EMPTY_PATH),
        "tgkill": _Condition(argument=0, test="equals", value=pid),
    }
    for name, condition in conditions.items():
        parts += _conditional(_CONDITIONAL[name][column], condition)
    # glibc falls back to clone, whose flags a filter can read, only if clone3 does not exist
    parts += [_step(_EQUAL, _CONDITIONAL["clone3"][column], no=1), _refuse(errno.ENOSYS)]
    return b"".join([*parts, _refuse(errno.EPERM)])


def install(bpf: bytes) -> bool:
    """Put the calling process and its later threads under a program, for good.

    Args:
        bpf: what `program` returned.

    Returns:
        Whether the kernel took it; no privilege is needed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    records = ctypes.create_string_buffer(bpf, len(bpf))
    count = struct.pack("@HxxxxxxP", len(bpf) // 8, ctypes.addressof(records))
    head = ctypes.create_string_buffer(count, len(count))
    zero = ctypes.c_ulong(0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero):
        return False
    mode = ctypes.c_ulong(_SECCOMP_MODE_FILTER)
    return libc.prctl(_PR_SET_SECCOMP, mode, ctypes.byref(head), zero, zero) == 0


def _step(code: int, operand: int, *, yes: int = 0, no: int = 0) -> bytes:
    """Return one BPF instruction; `yes` and `no` are jumps counted in instructions."""
    return struct.pack("=HBBI", code, yes, no, operand)


def _refuse(error: int) -> bytes:
    return _step(_RETURN, _ERRNO | error)


def _conditional(number: int, condition: _Condition) -> list[bytes]:
    """Allow a call by one of its arguments; behind it the call's number is loaded again."""
    code = _EQUAL if condition.test == "equals" else _ANY_BIT
    return [
        _step(_EQUAL, number, no=4),
        _step(_LOAD, _ARGUMENTS_AT + 8 * condition.argument),
        _step(code, condition.value, no=1),
        _step(_RETURN, _ALLOW),
        _refuse(errno.EPERM),
    ]
