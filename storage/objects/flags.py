"""The two file flags of `chattr` that keep files and folders from being changed.

An append-only folder takes new names and gives none up; an immutable file can be neither written,
renamed, linked nor removed, not even by root before the flag is lifted. Setting them needs
CAP_LINUX_IMMUTABLE. A flag is lifted for a disposal only, and nothing raises: what could not be set
is simply not there when it is read again.

Source: linux/fs.h, FS_IOC_GETFLAGS = _IOR('f', 1, long), FS_IOC_SETFLAGS = _IOW('f', 2, long).
"""

import fcntl
import struct
from typing import Final

APPEND_ONLY: Final = 0x20
IMMUTABLE: Final = 0x10

_LONG_BYTES = struct.calcsize("l")
_GET_FLAGS = 2 << 30 | _LONG_BYTES << 16 | ord("f") << 8 | 1
_SET_FLAGS = 1 << 30 | _LONG_BYTES << 16 | ord("f") << 8 | 2


def flags_of(fd: int) -> int:
    """Every flag of an open file or folder as bits; 0 where the file system has none."""
    try:
        answer = fcntl.ioctl(fd, _GET_FLAGS, bytes(_LONG_BYTES))
    except OSError:
        return 0
    flags: int = struct.unpack_from("I", answer)[0]  # the kernel fills 32 bits of the long
    return flags


def set_flag(fd: int, flag: int, *, on: bool = True) -> bool:
    """Set or lift one flag; whether it is so now, False where that is not allowed."""
    flags = flags_of(fd)
    if bool(flags & flag) is on:
        return True
    wanted = flags | flag if on else flags & ~flag
    try:
        fcntl.ioctl(fd, _SET_FLAGS, struct.pack("I", wanted).ljust(_LONG_BYTES, b"\0"))
    except OSError:
        return False
    return bool(flags_of(fd) & flag) is on
