"""Write the vectors of tlog-proof and tlog-policy anew, from the specifications' text alone.

It imports nothing of this project: trees follow the recursive definition of RFC 6962, notes and
messages are spelt out, signatures come from `cryptography`. Keys are made from fixed seeds, so
every file is the same each time, but for the `hybrid` ones: ML-DSA-44 signs in hedged mode.

    python tests/vectors/tlog/regenerate.py [FOLDER]
"""

import json
import sys
from base64 import b64decode, b64encode
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

ORIGIN = "log.example/vectors"
ENTRIES = [f"entry {number}".encode() for number in range(11)]
SIZE = len(ENTRIES)
AT_S = 1_795_000_000


def b64(raw: bytes) -> str:
    """Standard base64."""
    return b64encode(raw).decode()


def mth(entries: list[bytes]) -> bytes:
    """RFC 6962 §2.1."""
    if len(entries) == 1:
        return sha256(b"\0" + entries[0]).digest()
    k = 1 << (len(entries) - 1).bit_length() - 1
    return sha256(b"\1" + mth(entries[:k]) + mth(entries[k:])).digest()


def path(m: int, entries: list[bytes]) -> list[bytes]:
    """RFC 6962 §2.1.1."""
    if len(entries) == 1:
        return []
    k = 1 << (len(entries) - 1).bit_length() - 1
    if m < k:
        return [*path(m, entries[:k]), mth(entries[k:])]
    return [*path(m - k, entries[k:]), mth(entries[:k])]


class Key:
    """A named key of one signature type."""

    def __init__(self, name: str, kind: int, seed: int) -> None:
        """Make it from a seed of 32 equal bytes."""
        self.name, self.kind = name, kind
        raw = bytes([seed]) * 32
        if kind == 6:
            self.private = MLDSA44PrivateKey.from_seed_bytes(raw)
        else:
            self.private = Ed25519PrivateKey.from_private_bytes(raw)
        material = bytes([kind]) + self.private.public_key().public_bytes_raw()
        self.id = sha256(name.encode() + b"\n" + material).digest()[:4]
        self.vkey = f"{name}+{self.id.hex()}+{b64(material)}"

    def line(self, body: str, at_s: int = AT_S) -> str:
        """A signature line for a checkpoint's body."""
        origin, size, root = body.encode().split(b"\n")[:3]
        if self.kind == 1:
            value = self.private.sign(body.encode())
        elif self.kind == 4:
            message = f"cosignature/v1\ntime {at_s}\n{body}".encode()
            value = at_s.to_bytes(8, "big") + self.private.sign(message)
        else:
            name = self.name.encode()
            message = b"subtree/v1\n\0" + bytes([len(name)]) + name + at_s.to_bytes(8, "big")
            message += bytes([len(origin)]) + origin + bytes(8) + int(size).to_bytes(8, "big")
            message += b64decode(root)
            value = at_s.to_bytes(8, "big") + self.private.sign(message)
        return f"— {self.name} {b64(self.id + value)}\n"


LOG, LOG_PQ = Key(ORIGIN, 1, 1), Key(ORIGIN, 6, 2)
W1, W2, W3 = (Key(f"w{number}.example", 4, 10 + number) for number in (1, 2, 3))
W1_PQ = Key("w1.example", 6, 21)
STRANGER = Key("stranger.example", 4, 31)


def body(size: int = SIZE, origin: str = ORIGIN) -> str:
    """A checkpoint's text."""
    return f"{origin}\n{size}\n{b64(mth(ENTRIES[:size]))}\n"


def note(*keys: Key, size: int = SIZE) -> str:
    """A checkpoint with the lines of these keys."""
    return body(size) + "\n" + "".join(key.line(body(size)) for key in keys)


def proof(index: int, checkpoint: str, size: int = SIZE, extra: bytes = b"") -> str:
    """A proof file."""
    lines = ["c2sp.org/tlog-proof@v1", *([f"extra {b64(extra)}"] if extra else [])]
    lines += [f"index {index}", *(b64(value) for value in path(index, ENTRIES[:size]))]
    return "\n".join(lines) + "\n\n" + checkpoint


def flip(text: str, line: int) -> str:
    """The file with one bit of the last full byte of a base64 line flipped."""
    lines = text.split("\n")
    head, sep, encoded = lines[line].rpartition(" ")
    raw = bytearray(b64decode(encoded))
    raw[-1] ^= 1
    lines[line] = head + sep + b64(bytes(raw))
    return "\n".join(lines)


def proofs() -> dict[str, tuple[int, str, str, str]]:
    """By file name: index of the entry, policy, outcome, text."""
    witnessed = note(LOG, W1, W2)
    good = proof(5, witnessed)
    hybrid = proof(5, note(LOG, LOG_PQ, W1, W1_PQ))
    two = "both.policy"
    one, sibling = note(LOG, W1), b64(path(5, ENTRIES)[0])
    many = "\n".join([sibling] * 65)
    foreign = body(origin="log.example/other")
    return {
        "witnessed": (5, two, "pass", good),
        "first-entry": (0, two, "pass", proof(0, witnessed)),
        "last-entry": (10, two, "pass", proof(10, witnessed)),
        "single-leaf": (0, two, "pass", proof(0, note(LOG, W1, W2, size=1), size=1)),
        "extra": (5, two, "pass", proof(5, witnessed, extra=b"opaque, unsigned")),
        "stranger-ignored": (5, two, "pass", proof(5, note(STRANGER, W2, LOG, W1))),
        "unwitnessed": (5, "none.policy", "pass", proof(5, note(LOG))),
        "any-of-three": (5, "any.policy", "pass", proof(5, note(LOG, W3))),
        "hybrid": (5, "hybrid.policy", "pass", hybrid),
        "hybrid-log-bit": (5, "hybrid.policy", "signature_invalid", flip(hybrid, -4)),
        "hybrid-witness-bit": (5, "hybrid.policy", "signature_invalid", flip(hybrid, -2)),
        "another-entry": (6, two, "proof_invalid", good),
        "hash-bit": (5, two, "proof_invalid", flip(good, 2)),
        "index-moved": (5, two, "proof_invalid", good.replace("index 5", "index 4")),
        "hash-missing": (5, two, "proof_invalid", without_line(good, 5)),
        "hash-too-many": (5, two, "proof_invalid", with_line(good, 6, b64(bytes(32)))),
        "hashes-swapped": (5, two, "proof_invalid", with_line(without_line(good, 2), 3, sibling)),
        "size-edited": (5, two, "signature_invalid", good.replace("\n11\n", "\n12\n")),
        "root-bit": (5, two, "signature_invalid", flip(good, 9)),
        "log-bit": (5, two, "signature_invalid", flip(good, 11)),
        "witness-bit": (5, two, "signature_invalid", flip(good, 12)),
        "log-line-missing": (5, two, "signature_invalid", proof(5, note(W1, W2))),
        "cosigned-elsewhere": (5, two, "signature_invalid", proof(5, one + W2.line(body(7)))),
        "cosigned-without-time": (5, two, "signature_invalid", proof(5, one + W2.line(body(), 0))),
        "one-witness": (5, two, "quorum_missing", proof(5, one)),
        "strangers-only": (5, two, "quorum_missing", proof(5, note(LOG, STRANGER, W3))),
        "another-log": (5, two, "checkpoint_invalid", proof(5, foreign + "\n" + LOG.line(foreign))),
        "size-with-zero": (5, two, "checkpoint_invalid", good.replace("\n11\n", "\n011\n")),
        "unsigned": (5, two, "note_invalid", proof(5, body())),
        "header-v2": (5, two, "proof_file_invalid", good.replace("@v1", "@v2")),
        "index-with-zero": (5, two, "proof_file_invalid", good.replace("index 5", "index 05")),
        "index-missing": (5, two, "proof_file_invalid", without_line(good, 1)),
        "index-beyond": (5, two, "proof_file_invalid", good.replace("index 5", "index 11")),
        "extra-empty": (5, two, "proof_file_invalid", with_line(good, 1, "extra ")),
        "extra-after-index": (5, two, "proof_file_invalid", with_line(good, 2, "extra AA==")),
        "hash-short": (5, two, "proof_file_invalid", with_line(good, 2, b64(bytes(31)))),
        "hash-loose-base64": (5, two, "proof_file_invalid", good.replace("=\n", "\n", 1)),
        "carriage-returns": (5, two, "proof_file_invalid", good.replace("\n", "\r\n")),
        "too-many-hashes": (5, two, "too_large", with_line(good, 2, many)),
    }  # fmt: skip


def with_line(text: str, place: int, line: str) -> str:
    """The file with one more line."""
    lines = text.split("\n")
    return "\n".join([*lines[:place], line, *lines[place:]])


def without_line(text: str, place: int) -> str:
    """The file with one line less."""
    lines = text.split("\n")
    return "\n".join([*lines[:place], *lines[place + 1 :]])


def policies() -> dict[str, tuple[str, str]]:
    """By file name: outcome of reading it, text."""
    log = f"log {LOG.vkey}\n"
    one, two, three = (f"witness {k.name[:2]} {k.vkey}\n" for k in (W1, W2, W3))
    pair, bad = log + one + two, "policy_invalid"
    hybrid = (
        f"{log}log {LOG_PQ.vkey} https://log.example/vectors/\n"
        f"{one}witness w1-pq {W1_PQ.vkey} https://w1.example/\n"
        "group w1-both all w1 w1-pq\nquorum w1-both\n"
    )
    return {
        "both.policy": ("pass", f"{pair}group both all w1 w2\nquorum both\n"),
        "any.policy": ("pass", f"{pair}{three}group some any w1 w2 w3\nquorum some\n"),
        "none.policy": ("pass", f"{log}quorum none\n"),
        "hybrid.policy": ("pass", hybrid),
        "spaced.policy": (
            "pass",
            f"# trust\n\n \t{log}\t# und\xfc\n{two}  witness\t w1  {W1.vkey} \t\nquorum w1\n",
        ),
        "empty.policy": (bad, ""),
        "no-quorum.policy": (bad, pair),
        "two-quorums.policy": (bad, f"{pair}quorum w1\nquorum w2\n"),
        "quorum-first.policy": (bad, f"{log}quorum w1\n{one}"),
        "no-final-newline.policy": (bad, f"{log}quorum none"),
        "carriage-returns.policy": (bad, f"{log}quorum none\n".replace("\n", "\r\n")),
        "same-key-twice.policy": (bad, f"{pair}witness w3 {W1.vkey}\nquorum w1\n"),
        "same-name-twice.policy": (bad, f"{pair}witness w1 {W3.vkey}\nquorum w1\n"),
        "log-key-as-witness.policy": (bad, f"witness w1 {LOG.vkey}\nquorum w1\n"),
        "member-of-two.policy": (bad, f"{pair}group a any w1\ngroup b all w1 w2\nquorum b\n"),
        "group-of-later.policy": (bad, f"{pair}group a any b\ngroup b any w1\nquorum a\n"),
        "threshold-zero.policy": (bad, f"{pair}group a 0 w1 w2\nquorum a\n"),
        "threshold-above.policy": (bad, f"{pair}group a 3 w1 w2\nquorum a\n"),
        "named-none.policy": (bad, f"{log}witness none {W1.vkey}\nquorum none\n"),
        "key-bit.policy": (bad, f"log {LOG.vkey[:-1]}A\nquorum none\n"),
    }


def main(folder: Path) -> None:
    """Write all files and `expected.json` into a folder."""
    expected: dict[str, dict[str, object]] = {"proofs": {}, "policies": {}}
    for name, (index, policy, outcome, text) in proofs().items():
        (folder / f"{name}.tlog-proof").write_bytes(text.encode())
        expected["proofs"][f"{name}.tlog-proof"] = {
            "entry": ENTRIES[index].decode(),
            "policy": policy,
            "outcome": outcome,
        }
    for name, (outcome, text) in policies().items():
        (folder / name).write_bytes(text.encode())
        expected["policies"][name] = outcome
    (folder / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
