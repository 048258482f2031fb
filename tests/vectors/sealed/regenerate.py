"""Write the vectors of sealed content with a writer of its own, not with the code under test.

Origin: made by this project, 2026-11-26. The content is SHAKE-256 of a word, so that nobody needs a
large file: `python tests/vectors/sealed/regenerate.py`.
"""

import hashlib
import json
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

SEGMENT = 8_388_608
CASES = (
    ("empty", 0),
    ("one byte", 1),
    ("a kilobyte", 1000),
    ("a segment", SEGMENT),
    ("a segment and a byte", SEGMENT + 1),
    ("two and a half", 2 * SEGMENT + SEGMENT // 2),
)


def seal(key: bytes, content: bytes) -> bytes:
    """The stored bytes, from the page, with the library's streaming cipher."""
    header = b"fengni-sealed/1\n" + len(content).to_bytes(8, "big") + SEGMENT.to_bytes(8, "big")
    pieces = [content[at : at + SEGMENT] for at in range(0, len(content), SEGMENT)] or [b""]
    stored = header
    for i, piece in enumerate(pieces):
        writer = Cipher(algorithms.AES(key), modes.GCM(i.to_bytes(12, "big"))).encryptor()
        place = i.to_bytes(8, "big") + len(pieces).to_bytes(8, "big")
        writer.authenticate_additional_data(header + hashlib.sha256(content).digest() + place)
        stored += writer.update(piece) + writer.finalize() + writer.tag
    return stored


def main() -> None:
    """Write `vectors.json` beside this file."""
    vectors: list[dict[str, object]] = []
    for name, size in CASES:
        key = hashlib.sha256(f"key of {name}".encode()).digest()
        content = hashlib.shake_256(name.encode()).digest(size)
        stored = seal(key, content)
        vectors.append(
            {
                "name": name,
                "key": key.hex(),
                "content_shake_256_of": name,
                "size_bytes": size,
                "content_sha256": hashlib.sha256(content).hexdigest(),
                "stored_sha256": hashlib.sha256(stored).hexdigest(),
                "stored": stored.hex() if size <= 1000 else None,
            }
        )
    text = json.dumps(vectors, indent=1) + "\n"
    Path(__file__).with_name("vectors.json").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
