"""Files that only their owner may read: keys, tokens and what names them.

Does: writes a file in one step, durable on return, with mode 0600, and makes folders with mode
0700. Refuses to overwrite a key: whoever wants a new one names another file.
"""

import os
from pathlib import Path


def write_private(path: Path, data: bytes) -> None:
    """Replace a file in one step; a reader sees the former bytes or these.

    Raises:
        OSError: the disk refused; the former file is untouched.
    """
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _write_new(staged, data)
        staged.replace(path)
    except OSError:
        staged.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def create_private(path: Path, data: bytes) -> None:
    """Write a file that must not be there yet.

    Raises:
        FileExistsError: it is there; a key is never overwritten.
        OSError: the disk refused.
    """
    _write_new(path, data)
    sync_folder(path.parent)


def make_private_folder(path: Path) -> Path:
    """Make a folder that only its owner may enter, if it is not there; return it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_new(path: Path, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
