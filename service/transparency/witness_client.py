"""Asks witnesses (C2SP tlog-witness) to cosign our checkpoints, and what they saw last.

Does: submits a checkpoint with a consistency proof, proves anew when the witness knows another
size, and returns the lines of the witness's known keys once they verify. Refuses: redirects,
answers over 64 KiB, and to go on when a witness has seen more than we have: then our own state
is an old copy, or somebody signs with our key, and nothing may be signed any more.
"""

import re
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import httpx

from evidence.errors import NoteInvalid
from evidence.tlog.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint
from evidence.tlog.cosignature import verify_cosignature
from evidence.tlog.note import NoteSignature, VerifierKey, parse_signature_line
from service.transparency.tls import trusted

MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_ATTEMPTS: Final = 3  # a size learned by 409 can be old again when others submit for us too
SIZE_TYPE: Final = "text/x.tlog.size"
_SIZE = re.compile(r"(0|[1-9][0-9]{0,18})\n")

Prove = Callable[[int, int], Sequence[bytes]]
"""(old size, new size) -> consistency proof of our log, hashes of 32 bytes."""


class WitnessUnavailable(Exception):
    """The witness did not answer, or not as tlog-witness says: ask it again later."""


class WitnessRefusal(Exception):
    """The witness answered that it will not cosign this; `status` says why (400 to 422)."""

    def __init__(self, status: int) -> None:
        """Keep the status: 403 signature, 404 unknown log, 422 no consistent history."""
        super().__init__(f"The witness refused with status {status}.")
        self.status = status


class WitnessAhead(Exception):
    """The witness has cosigned a larger tree of our log than we submit; `size` is its leaves."""

    def __init__(self, size: int) -> None:
        """Keep the size that the witness knows."""
        super().__init__(f"The witness has seen {size} leaves.")
        self.size = size


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessAddress:
    """Where a witness answers (URL prefix) and the keys under which it is known to us."""

    url: str
    keys: tuple[VerifierKey, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosigned:
    """The verified lines of one witness for one checkpoint; `at_s` is its time, POSIX seconds."""

    lines: tuple[NoteSignature, ...]
    at_s: int


def submit(
    witness: WitnessAddress,
    note: bytes,
    log_keys: Sequence[VerifierKey],
    *,
    old_size: int,
    prove: Prove,
    timeout_s: float,
) -> Cosigned:
    """Have a witness cosign a checkpoint.

    1. Send it with the proof from `old_size`, the size that we believe the witness knows.
    2. On 409 take the size that it states; if that is ours or less, prove from it and go to 1.
    3. Keep the lines of its known keys, each verified; ignore those of others.

    Args:
        witness: address and known keys.
        note: the signed checkpoint.
        log_keys: our own log's keys.
        old_size: 0 where nothing is known.
        prove: makes a consistency proof of our log.
        timeout_s: seconds for each request.

    Raises:
        WitnessUnavailable: no answer in time, or one that tlog-witness does not know.
        WitnessRefusal: a firm no.
        WitnessAhead: it has seen a larger tree; see the module.
        EvidenceError: the note is not ours, or the witness's lines do not hold.
    """
    signed = open_checkpoint(note, log_keys)
    size = signed.checkpoint.size
    with _http(witness, timeout_s) as http:
        for _ in range(MAX_ATTEMPTS):
            body = _request(old_size, prove(old_size, size), note)  # 1
            status, kind, answer = _exchange(http, "POST", "add-checkpoint", body, timeout_s)
            if status == 200:
                return _verified(answer, signed.checkpoint, witness.keys)  # 3
            if status != 409:
                raise _no(status)
            old_size = _stated_size(kind, answer)  # 2
            if old_size > size:
                raise WitnessAhead(old_size)
    raise WitnessUnavailable("The witness states another size each time.")


def latest(
    witness: WitnessAddress, origin: str, log_keys: Sequence[VerifierKey], *, timeout_s: float
) -> SignedCheckpoint | None:
    """Ask which checkpoint of a log a witness cosigned last.

    At start-up its size and root count against our own: see `storage.log`.

    Args:
        witness: address and known keys.
        origin: of our log.
        log_keys: our own log's keys: a witness cannot make us older than we are.
        timeout_s: seconds for the request.

    Returns:
        The checkpoint, signed by our log and cosigned by the witness, or None where it never
        cosigned one of this log.

    Raises:
        WitnessUnavailable, WitnessRefusal: as in `submit`.
        EvidenceError: the answer is no such checkpoint.
    """
    path = f"{sha256(origin.encode()).hexdigest()}/checkpoint"
    with _http(witness, timeout_s) as http:
        status, _, answer = _exchange(http, "GET", path, b"", timeout_s)
    if status == 404:
        return None
    if status != 200:
        raise _no(status)
    signed = open_checkpoint(answer, [key for key in log_keys if key.name == origin])
    _times(signed.note.signatures, signed.checkpoint, witness.keys)
    return signed


def _http(witness: WitnessAddress, timeout_s: float) -> httpx.Client:
    return httpx.Client(base_url=witness.url, timeout=timeout_s, trust_env=False, verify=trusted())


def _request(old_size: int, proof: Sequence[bytes], note: bytes) -> bytes:
    lines = [f"old {old_size}", *(b64encode(node).decode() for node in proof), "", ""]
    return "\n".join(lines).encode() + note


def _exchange(
    http: httpx.Client, method: str, path: str, body: bytes, timeout_s: float
) -> tuple[int, str, bytes]:
    """Return status, content type and body of one answer, within size and time."""
    deadline = time.monotonic() + timeout_s
    found = bytearray()
    try:
        with http.stream(method, path, content=body) as answer:
            for piece in answer.iter_bytes():
                found += piece
                if len(found) > MAX_ANSWER_BYTES or time.monotonic() > deadline:
                    raise WitnessUnavailable("The witness's answer is too large or too slow.")
            return answer.status_code, answer.headers.get("Content-Type", ""), bytes(found)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise WitnessUnavailable("The witness did not answer.") from exc


def _no(status: int) -> WitnessRefusal | WitnessUnavailable:
    if 400 <= status < 500:
        return WitnessRefusal(status)
    return WitnessUnavailable(f"The witness answered with status {status}.")


def _stated_size(kind: str, answer: bytes) -> int:
    found = _SIZE.fullmatch(answer.decode("utf-8", "replace"))
    if kind != SIZE_TYPE or found is None:
        raise WitnessUnavailable("The witness stated a conflict, but no size.")
    return int(found[1])


def _verified(answer: bytes, checkpoint: Checkpoint, keys: Sequence[VerifierKey]) -> Cosigned:
    """Read the lines of an answer and keep those of known keys."""
    try:
        text = answer.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise NoteInvalid("the witness's answer is not UTF-8") from exc
    if not text.endswith("\n"):
        raise NoteInvalid("the witness's answer has no final newline")
    lines = [parse_signature_line(line) for line in text[:-1].split("\n")]
    known = tuple(line for line in lines if any(key.made(line) for key in keys))
    return Cosigned(lines=known, at_s=min(_times(known, checkpoint, keys)))


def _times(
    lines: Sequence[NoteSignature], checkpoint: Checkpoint, keys: Sequence[VerifierKey]
) -> list[int]:
    """Verify every line of a known key; there must be one."""
    times = [
        verify_cosignature(checkpoint, line, key)
        for line in lines
        for key in keys
        if key.made(line)
    ]
    if not times:
        raise NoteInvalid("the witness's answer has no line of a key that is known here")
    return times
