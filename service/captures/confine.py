"""Make a process harmless before it reads what strangers sent.

Does: limits memory, time, files and processes, cuts the network off, and installs the filter of
`seccomp`; says which of these the machine granted. Refuses to claim what it did not get.

    isolation = confine(Limits())   # ["rlimits", "no_new_privs", "seccomp"]
"""

import ctypes
import os
import resource
import signal
from dataclasses import dataclass

from service.captures import seccomp

_CLONE_NEWUSER, _CLONE_NEWNET = 0x1000_0000, 0x4000_0000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one job may use.

    Attributes:
        memory_bytes: address space, libraries included (some 300 MiB of it).
        cpu_s: processor time, all threads together; by a timer, for RLIMIT_CPU counts whole
            seconds only and stands behind it.
        wall_s: time by the clock, waiting for a processor included.
        open_files: descriptors; decoders open none, a thread runtime a few.
    """

    memory_bytes: int = 1024 * MIB
    cpu_s: float = 1.5
    wall_s: float = 1.9
    open_files: int = 32


def cut_network() -> list[str]:
    """Move the calling process into a network of its own, which has no way out.

    Returns:
        `["netns"]` if the kernel granted it: as root, or where users may make namespaces. Must
        be called with one thread only.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for flags in (_CLONE_NEWUSER | _CLONE_NEWNET, _CLONE_NEWNET):
        if libc.unshare(ctypes.c_int(flags)) == 0:
            return ["netns"]
    return []


def confine(limits: Limits) -> list[str]:
    """Put the calling process under its limits, for good.

    Args:
        limits: what it may use from now on.

    Returns:
        What was achieved, in this order: `rlimits`, `no_new_privs`, `seccomp`.
    """
    for signal_number in (signal.SIGALRM, signal.SIGPROF, signal.SIGXCPU):
        signal.signal(signal_number, signal.SIG_DFL)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    libc.prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0))
    _limit(resource.RLIMIT_AS, limits.memory_bytes)
    _limit(resource.RLIMIT_DATA, limits.memory_bytes)
    _limit(resource.RLIMIT_CPU, int(limits.cpu_s) + 1)
    _limit(resource.RLIMIT_NOFILE, limits.open_files)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    signal.setitimer(signal.ITIMER_PROF, limits.cpu_s)
    signal.setitimer(signal.ITIMER_REAL, limits.wall_s)
    machine = os.uname().machine
    if seccomp.is_supported(machine) and seccomp.install(seccomp.program(machine, os.getpid())):
        return ["rlimits", "no_new_privs", "seccomp"]
    return ["rlimits"]


def _limit(kind: int, value: int) -> None:
    """Lower a limit, soft and hard, to a value; a lower hard limit stays."""
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))
