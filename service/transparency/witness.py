"""A C2SP witness of our own, as a process beside the service or in another body's house.

Does: makes a witness (name, keys, memory, the logs that it may cosign) in a folder, and serves
it on loopback. Refuses: to listen beyond loopback, to overwrite a witness, and to serve one
whose memory is gone.

A witness is worth what its independence is: run it in another body, on another machine, with
keys that the log's operator never held. Two local ones only make the demo complete.

    fengni witness init FOLDER --name NAME
    fengni witness add-log ORIGIN VKEY [VKEY] --folder FOLDER
    fengni witness serve --folder FOLDER --port 8101

    python -m service.transparency.witness FOLDER --create NAME [--log VKEY ...]
    python -m service.transparency.witness FOLDER --add-log ORIGIN --log VKEY [--log VKEY]
    python -m service.transparency.witness FOLDER --port 8101

The second form does the same with the base install alone: no server, no store, no framework.

The folder holds `witness.json` (name and the logs' vkeys), two private keys and
`witness.sqlite`, the memory. A folder that is lost, or restored from an older copy, is a lost
witness: make a new one under another name.
"""

import argparse
import fcntl
import json
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from evidence.errors import KeyInvalid
from evidence.tlog.cosignature import Cosigner
from evidence.tlog.note import ED25519, ML_DSA_44, VerifierKey, parse_vkey
from service.private_files import create_private, make_private_folder, write_private
from service.transparency.cosigning import (
    MAX_BODY_BYTES,
    Memory,
    Witness,
    WitnessRefused,
    create_memory,
    read_memory,
)
from service.transparency.loopback import LoopbackServer

MAX_NAME_BYTES: Final = 255  # tlog-cosignature: opaque cosigner_name<1..2^8-1>
_SETTINGS, _MEMORY = "witness.json", "witness.sqlite"
_ED25519_KEY, _ML_DSA_KEY = "ed25519.key", "ml-dsa-44.key"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    """What `witness.json` says: who this witness is, and the logs' vkeys."""

    name: str
    logs: tuple[str, ...]


def create_witness(folder: Path, name: str, log_vkeys: Sequence[str] = ()) -> tuple[str, ...]:
    """Make a witness with new keys and an empty memory.

    Args:
        folder: is made with mode 0700; keys in it with mode 0600.
        name: a schema-less URL that no other witness has, at most 255 bytes.
        log_vkeys: C2SP verifier keys of the logs that it may cosign; the name of a key is the
            log's origin, and a log with two algorithms has two.

    Returns:
        The witness's own vkeys, Ed25519 (0x04) and ML-DSA-44 (0x06): what a policy names.

    Raises:
        WitnessRefused: the name or one of the keys is not usable.
        FileExistsError: there is a witness in this folder already.
    """
    settings = _Settings(name=name, logs=tuple(key.encode() for key in _log_keys(log_vkeys)))
    keys = (Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate())
    vkeys = _vkeys(name, keys)
    make_private_folder(folder)
    create_memory(folder / _MEMORY)
    for file, key in zip((_ED25519_KEY, _ML_DSA_KEY), keys, strict=True):
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        create_private(folder / file, pem)
    create_private(folder / _SETTINGS, _encoded(settings))
    return vkeys


def add_log(folder: Path, origin: str, log_vkeys: Sequence[str]) -> int:
    """Let a witness cosign a log, or know further keys of one; a process that serves it follows.

    Args:
        folder: one that `create_witness` made.
        origin: of the log.
        log_vkeys: one or more of its verifier keys.

    Returns:
        How many of them were not known before.

    Raises:
        FileNotFoundError: there is no witness in the folder.
        WitnessRefused: a key is not usable or is another log's; nothing has changed.
    """
    keys = _log_keys(log_vkeys)
    if not keys or any(key.name != origin for key in keys):
        raise WitnessRefused("A log has one key or more, and each has its origin as its name.")
    with _turn(folder):
        settings = _read_settings(folder)
        fresh = dict.fromkeys(key.encode() for key in keys if key.encode() not in settings.logs)
        if fresh:
            grown = replace(settings, logs=(*settings.logs, *fresh))
            write_private(folder / _SETTINGS, _encoded(grown))
    return len(fresh)


def remembered(folder: Path) -> dict[str, Memory]:
    """What the witness in a folder remembers of each log that it may cosign, by origin.

    Raises:
        FileNotFoundError, WitnessRefused: see `open_witness`.
    """
    origins = dict.fromkeys(key.name for key in _log_keys(_read_settings(folder).logs))
    return {origin: read_memory(folder / _MEMORY, origin) for origin in origins}


def open_witness(folder: Path, clock: Callable[[], float]) -> Witness:
    """Open the witness in a folder, with the memory that it had.

    Args:
        folder: one that `create_witness` made.
        clock: POSIX seconds.

    Raises:
        FileNotFoundError: settings, keys or memory are not there.
        WitnessRefused: settings or keys cannot be read.
    """
    settings = _read_settings(folder)
    try:
        keys = _read_keys(folder)
    except ValueError as exc:
        raise WitnessRefused(f"The keys in {folder} cannot be read.") from exc
    _vkeys(settings.name, keys)
    _log_keys(settings.logs)
    return Witness(
        folder / _MEMORY,
        Cosigner(settings.name, *keys),
        lambda: _log_keys(_read_settings(folder).logs),
        clock,
    )


def witness_server(folder: Path, port: int, *, host: str = "127.0.0.1") -> LoopbackServer:
    """Bind a witness to a port (0: any free one); the caller lets it `run`.

    Raises:
        FileNotFoundError, WitnessRefused: see `open_witness`.
        ValueError: the host is not a loopback address.
    """
    witness = open_witness(folder, _clock)
    return LoopbackServer(
        lambda request: witness.answer(request.method, request.path, request.body),
        port,
        max_body_bytes=MAX_BODY_BYTES,
        host=host,
    )


def serve_witness(folder: Path, port: int, *, host: str = "127.0.0.1") -> None:
    """Serve a witness until the process ends; see `witness_server`."""
    with witness_server(folder, port, host=host) as server:
        sys.stdout.write(f"witness in {folder}: ready on http://{host}:{server.port}/\n")
        sys.stdout.flush()
        server.run()


def main(arguments: Sequence[str] | None = None) -> None:
    """Create or serve a witness from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m service.transparency.witness",
        description="A witness of transparency logs (C2SP tlog-witness).",
    )
    parser.add_argument("folder", type=Path, help="where name, keys and memory lie")
    parser.add_argument("--create", metavar="NAME", help="make a witness of this name, then end")
    parser.add_argument("--add-log", metavar="ORIGIN", help="let in a log, then end")
    parser.add_argument("--log", metavar="VKEY", action="append", default=[], help="may cosign it")
    parser.add_argument("--port", type=int, default=8101, help="on 127.0.0.1; 0 takes a free one")
    chosen = parser.parse_args(arguments)
    if chosen.add_log is not None:
        add_log(chosen.folder, chosen.add_log, chosen.log)
    elif chosen.create is None:
        serve_witness(chosen.folder, chosen.port)
    else:
        for vkey in create_witness(chosen.folder, chosen.create, chosen.log):
            sys.stdout.write(f"{vkey}\n")


def _read_settings(folder: Path) -> _Settings:
    """Read `witness.json`, strictly."""
    raw = (folder / _SETTINGS).read_bytes()
    try:
        document = cast("object", json.loads(raw))
    except ValueError as exc:
        raise WitnessRefused(f"The settings in {folder} cannot be read.") from exc
    if isinstance(document, dict):
        members = cast("dict[str, object]", document)
        name, logs = members.get("name"), members.get("logs")
        if members.keys() == {"name", "logs"} and isinstance(name, str) and isinstance(logs, list):
            vkeys = [vkey for vkey in cast("list[object]", logs) if isinstance(vkey, str)]
            if len(vkeys) == len(cast("list[object]", logs)):
                return _Settings(name=name, logs=tuple(vkeys))
    raise WitnessRefused(f"The settings in {folder} have another form.")


def _encoded(settings: _Settings) -> bytes:
    return json.dumps(asdict(settings), indent=2, ensure_ascii=False).encode() + b"\n"


@contextmanager
def _turn(folder: Path) -> Generator[None]:
    """One change of the settings at a time."""
    with (folder / _SETTINGS).open("rb"), (folder / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _log_keys(vkeys: Sequence[str]) -> tuple[VerifierKey, ...]:
    try:
        keys = tuple(parse_vkey(vkey) for vkey in vkeys)
    except KeyInvalid as exc:
        raise WitnessRefused("One of the logs' verifier keys is not one.") from exc
    if any(key.kind not in (ED25519, ML_DSA_44) for key in keys):
        raise WitnessRefused("A log signs with Ed25519 (0x01) or ML-DSA-44 (0x06).")
    return keys


def _vkeys(name: str, keys: tuple[Ed25519PrivateKey, MLDSA44PrivateKey]) -> tuple[str, ...]:
    """Return the witness's verifier keys, if its name can be one."""
    if not 1 <= len(name.encode()) <= MAX_NAME_BYTES:
        raise WitnessRefused("A witness's name has 1 to 255 bytes.")
    try:
        return tuple(key.encode() for key in Cosigner(name, *keys).verifier_keys)
    except KeyInvalid as exc:
        raise WitnessRefused("A witness's name has no spaces, plus signs or controls.") from exc


def _read_keys(folder: Path) -> tuple[Ed25519PrivateKey, MLDSA44PrivateKey]:
    first = load_pem_private_key((folder / _ED25519_KEY).read_bytes(), password=None)
    second = load_pem_private_key((folder / _ML_DSA_KEY).read_bytes(), password=None)
    if not isinstance(first, Ed25519PrivateKey) or not isinstance(second, MLDSA44PrivateKey):
        raise WitnessRefused("A witness has one Ed25519 and one ML-DSA-44 key.")
    return first, second


def _clock() -> float:
    return time.time()  # noqa: TID251 -- a witness is a process with a clock of its own


if __name__ == "__main__":
    main()
