"""Writing a package: from evidence at hand to the bytes that `evidence.package` reads.

Does: lays out statements, leaves, proofs, tokens, originals and bundles as a BagIt bag in a
ZIP, the same input always giving the same bytes. Refuses: two statements of one id, a name
that a reader refuses, and an original that does not have the digest that its capture announced:
a package never leaves with a broken link inside.

Source: RFC 8493; docs/evidence-format.md §8.
"""

import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import BinaryIO

from evidence.canonical import JSONObject, canonicalise
from evidence.digest import Hasher, Measured, sha256_hex
from evidence.leaf import leaf_of
from evidence.package import (
    BAGIT,
    FORMAT,
    INDEX,
    MAX_EXPANSION,
    MAX_SMALL_BYTES,
    Names,
    members_of,
    original_of,
    timestamps_over,
)
from evidence.report import NOT_PROVEN, PROVEN
from evidence.schema import format_time
from evidence.statement import SignedStatement

FOLDER = "fengni-package"
EXTENSIONS: Mapping[str, str] = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "image/tiff": "tif",
    "image/heic": "heic",
    "image/avif": "avif",
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "application/json": "json",
    "application/pdf": "pdf",
    "text/plain": "txt",
}
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)  # the ZIP format's zero: times stand in statements, not here
_README = f"""\
This package can be checked without the authority that made it and without a network.

You need two things from a body that you trust, by another way than this package: the file
known-keys.json with its SHA-256, and the verifier. The verifier is the folder evidence/ of
Fengni's repository, or the wheel made from it; take the one whose commit or SHA-256 that body
names. Never install it by its name from a package index: nobody vouches for what bears it there.

1. sha256sum known-keys.json *.whl      (compare both with what that body wrote)
2. pip install --require-hashes -r requirements-verifier.lock  (its five libraries)
   pip install --no-index --no-deps ./THE-WHEEL.whl      (or run step 3 inside the repository)
3. python -m evidence verify PACKAGE.zip --known-keys known-keys.json

Stock tools can check the parts by themselves:
  unzip PACKAGE.zip && cd {FOLDER} && sha256sum -c manifest-sha256.txt
  bagit.py --validate .
  data/proofs/*.tlog-proof     c2sp.org/tlog-proof over the bytes of data/leaves/<same name>.json
  data/bundles/*.json          Sigstore bundle v0.3 over data/statements/<same name>.json
  data/timestamps/*/*.tsr      RFC 3161; the folder's name is the SHA-256 that is stamped:
                               openssl ts -verify -digest <folder> -in N.tsr -CAfile ROOT.pem
What openssl shows with OK: an authority below ROOT.pem signed that digest and a time. What it does
not show: that ROOT.pem is one to trust, or was not compromised by then; which file the digest is of
(take its sha256sum; of a checkpoint only some lines are covered); and, where it fails, why: a
damaged token and a sound one of an authority that is not below ROOT.pem look alike, and one
whose certificates have expired since needs -attime. Only the verifier tells these apart.
sha256sum and bagit find damage, not forgery: whoever changes a file can change the manifest too.
None of them tells whose key signed, whether that key was enrolled or revoked, or whether the
originals are those that were announced: the verifier does.

{PROVEN}
{NOT_PROVEN}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedStatement:
    """A logged statement with its proof.

    Attributes:
        signed: the statement with its signature.
        public_key: DER SubjectPublicKeyInfo of the signer.
        proof: an encoded `.tlog-proof`.
    """

    signed: SignedStatement
    public_key: bytes
    proof: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """The bytes of one capture.

    Attributes:
        capture: statement id of the capture.
        media_type: as announced.
        content: digest and size as announced.
        pieces: opens the bytes from the beginning.
    """

    capture: str
    media_type: str
    content: Measured
    pieces: Callable[[], Iterable[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a package is made of.

    Attributes:
        audience: the deployment's stable id.
        made_at: when it is made, UTC.
        captures: statement ids of the exported captures, in their order.
        statements: those captures, everything about them, their sessions, the whole key
            chain and the status of the chain.
        timestamps: DER TimeStampResp by the bytes that they cover.
        originals: the captures' bytes.
        bundles: Sigstore bundles as JSON bytes, by capture id.
        trusted_root: a Sigstore trusted root as JSON bytes, for convenience.
        attachments: further small files by plain name (letters, digits, `.`, `_`, `-`),
            such as a tool's full output.
    """

    audience: str
    made_at: datetime
    captures: Sequence[str]
    statements: Sequence[PackedStatement]
    timestamps: Mapping[bytes, Sequence[bytes]]
    originals: Sequence[Original]
    bundles: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    trusted_root: bytes | None = None
    attachments: Mapping[str, bytes] = field(default_factory=dict[str, bytes])


def write_package(contents: Contents, out: BinaryIO) -> None:
    """Write the package.

    Args:
        contents: what goes in.
        out: writable and seekable; stays the caller's to flush and close.

    Raises:
        DigestMismatch: an original does not have the announced digest.
        PackageInvalid: a name is not plain, or is another's for a reader who ignores case.
        ValueError: two statements have one id, or a small member is too large.
    """
    payload: dict[str, str] = {}
    names = Names()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in _small_members(contents):
            if name in payload:
                raise ValueError("two members of a package have one name")
            names.take(name)
            payload[name] = _add(archive, name, data)
        for original in contents.originals:
            extension = EXTENSIONS.get(original.media_type, "bin")
            name = f"{original_of(original.capture)}{extension}"
            payload[name] = _add_original(archive, name, original)
        octets = sum(info.file_size for info in archive.infolist())
        tags = {
            "bagit.txt": BAGIT,
            "bag-info.txt": _bag_info(contents, octets, len(payload)),
            "manifest-sha256.txt": _manifest(payload),
        }
        digests = {name: _add(archive, name, data) for name, data in tags.items()}
        _add(archive, "tagmanifest-sha256.txt", _manifest(digests))


def _small_members(contents: Contents) -> Iterable[tuple[str, bytes]]:
    index: JSONObject = {
        "format": FORMAT,
        "audience": contents.audience,
        "made_at": format_time(contents.made_at),
        "captures": list(contents.captures),
    }
    yield INDEX, canonicalise(index, max_bytes=MAX_SMALL_BYTES)
    yield "data/VERIFY.txt", _README.encode()
    for item in contents.statements:
        signed = item.signed
        statement, leaf, proof = members_of(signed.id)
        yield statement, signed.raw
        yield leaf, leaf_of(signed.id, signed.signature, item.public_key)
        yield proof, item.proof
    for covered, responses in contents.timestamps.items():
        for number, response in enumerate(responses, 1):
            yield f"{timestamps_over(covered)}{number}.tsr", response
    for capture, bundle in contents.bundles.items():
        yield f"data/bundles/{capture}.json", bundle
    if contents.trusted_root is not None:
        yield "data/bundles/trusted_root.json", contents.trusted_root
    for name, data in contents.attachments.items():
        yield f"data/attachments/{name}", data


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> str:
    if len(data) > MAX_SMALL_BYTES:
        raise ValueError("a small member of a package is too large")
    info = _info(name)
    # What deflates too well would look like a bomb to a reader: it is stored instead.
    deflated_bytes = len(zlib.compress(data, wbits=-zlib.MAX_WBITS))
    if len(data) <= MAX_EXPANSION * deflated_bytes:
        info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, data)
    return sha256_hex(data)


def _add_original(archive: zipfile.ZipFile, name: str, original: Original) -> str:
    info = _info(name)
    info.file_size = original.content.size_bytes
    hasher = Hasher()
    with archive.open(info, "w", force_zip64=info.file_size > zipfile.ZIP64_LIMIT) as member:
        for piece in original.pieces():
            hasher.update(piece)
            member.write(piece)
    measured = hasher.measured()
    measured.require(sha256=original.content.sha256, size_bytes=original.content.size_bytes)
    return measured.sha256


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(f"{FOLDER}/{name}", date_time=_FIXED_TIME)
    info.external_attr = 0o100644 << 16
    info.create_system = 3
    return info


def _manifest(digests: Mapping[str, str]) -> bytes:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())).encode()


def _bag_info(contents: Contents, octets: int, members: int) -> bytes:
    return (
        f"Bagging-Date: {contents.made_at:%Y-%m-%d}\n"
        f"Payload-Oxum: {octets}.{members}\n"
        f"Internal-Sender-Identifier: {contents.audience}\n"
        "Bag-Software-Agent: fengni\n"
    ).encode()
