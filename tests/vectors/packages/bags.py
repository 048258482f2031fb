"""What every maker of package vectors needs: members edited, lists written anew, answers kept."""

import base64
import io
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from evidence.canonical import canonicalise
from evidence.digest import sha256_hex
from evidence.keys import P256Signer
from evidence.packing import FOLDER
from tests.evidence.package_maker import AT, plain_file
from tests.vectors.packages.courses import Vector

HERE = Path(__file__).parent
NOW = AT + timedelta(days=1)


def edited(
    data: bytes, change: dict[str, bytes | None], *, relist: bool = True, deflate: str = ""
) -> bytes:
    """Replace or drop members; `relist` writes the manifests anew, as a forger would.

    The member `deflate` is compressed, whatever it was before.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        members = {i.filename.removeprefix(f"{FOLDER}/"): old.read(i) for i in old.infolist()}
        stored = {i.filename.removeprefix(f"{FOLDER}/"): i.compress_type for i in old.infolist()}
    stored |= {deflate: zipfile.ZIP_DEFLATED}
    for name, body in change.items():
        if body is None:
            del members[name]
        else:
            members[name] = body
    if relist:
        relisted(members)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as new:
        for name, body in members.items():
            info = plain_file(f"{FOLDER}/{name}")
            new.writestr(info, body, compress_type=stored.get(name, zipfile.ZIP_STORED))
    return out.getvalue()


def relisted(members: dict[str, bytes]) -> None:
    """Write both manifests for the members as they are."""
    payload = {n: sha256_hex(b) for n, b in members.items() if n.startswith("data/")}
    members["manifest-sha256.txt"] = lines(payload)
    tags = {
        n: sha256_hex(b)
        for n, b in members.items()
        if not n.startswith("data/") and n != "tagmanifest-sha256.txt"
    }
    members["tagmanifest-sha256.txt"] = lines(tags)


def lines(digests: dict[str, str]) -> bytes:
    """A BagIt manifest."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())).encode()


def signature_of(document: dict[str, Any], signer: P256Signer) -> dict[str, str]:
    """A signature over the file's own `signed`."""
    message = canonicalise(document["signed"], max_bytes=1024 * 1024)
    encoded = base64.b64encode(signer.sign(message)).decode()
    return {"key_id": signer.key_id, "signature": encoded}


def kept(name: str, vector: Vector) -> dict[str, Any]:
    """Write a vector's package, and say what is expected of it."""
    (HERE / f"{name}.zip").write_bytes(vector.package)
    return {
        "known_keys": vector.known,
        "content_changed": sorted(vector.changed),
        "cannot_confirm": sorted(vector.unconfirmed),
    }
