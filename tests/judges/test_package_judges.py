"""Foreign tools accept our packages and bundles, and refuse them after one change."""

import base64
import json
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from evidence.packing import FOLDER
from evidence.sigstore import TrustedAuthority, make_bundle, make_trusted_root
from evidence.statement import SignedStatement
from evidence.tlog.proof import parse_tlog_proof
from tests.evidence.package_maker import World, stamped, world_with_photo, written
from tests.evidence.timestamp_maker import START, Authority
from tests.tools import ROOT, require_node_modules, require_tool

SCRIPT = ROOT / "tests" / "judges" / "node" / "verify_bundle.js"
VALID_FROM = "2020-01-01T00:00:00Z"


def der(certificate: x509.Certificate) -> bytes:
    """A certificate's bytes."""
    return certificate.public_bytes(Encoding.DER)


class Bundled:
    """A bundle of one capture with everything that Sigstore's verifier is told."""

    def __init__(self, world: World, capture: SignedStatement, authority: Authority) -> None:
        """Make bundle and trusted root."""
        contents = stamped(world, capture, authority)
        packed = next(item for item in contents.statements if item.signed.id == capture.id)
        log_key = world.log.verifier_keys[0]
        self.artifact = capture.raw
        self.key = world.device.public_key
        self.bundle: dict[str, Any] = make_bundle(
            capture,
            self.key,
            parse_tlog_proof(packed.proof),
            log_key,
            contents.timestamps[capture.signature],
        )
        chain = (authority.signer.der, authority.intermediate.der, authority.root.der)
        self.root: dict[str, Any] = make_trusted_root(
            [(log_key, START)],
            [TrustedAuthority(name="test", certificates=chain, valid_from=START)],
        )

    def judged(self, folder: Path) -> tuple[int, str]:
        """Exit status and output of the judge."""
        node = require_tool("node")
        modules = require_node_modules()
        files = {
            "root.json": json.dumps(self.root).encode(),
            "bundle.json": json.dumps(self.bundle).encode(),
            "artifact": self.artifact,
            "key.der": self.key,
        }
        for name, data in files.items():
            (folder / name).write_bytes(data)
        done = subprocess.run(
            [node, SCRIPT, *(folder / name for name in files), VALID_FROM],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={"NODE_PATH": str(modules), "PATH": "/usr/bin:/bin"},
        )
        return done.returncode, done.stdout.strip()


def entry(bundle: dict[str, Any]) -> dict[str, Any]:
    """The bundle's log entry."""
    return bundle["verificationMaterial"]["tlogEntries"][0]


def flip(text: str, place: int = 0) -> str:
    """Flip one bit of what base64 says."""
    data = bytearray(base64.b64decode(text))
    data[place] ^= 1
    return base64.b64encode(data).decode()


def flip_artifact(bundled: Bundled) -> None:
    """Change one character of the statement."""
    bundled.artifact = bundled.artifact.replace(b"attended", b"attendee")


def swap_hash(bundled: Bundled) -> None:
    """Damage the inclusion proof."""
    hashes = entry(bundled.bundle)["inclusionProof"]["hashes"]
    hashes[0] = flip(hashes[0])


def edit_checkpoint(bundled: Bundled) -> None:
    """Claim another tree size in the checkpoint."""
    checkpoint = entry(bundled.bundle)["inclusionProof"]["checkpoint"]
    lines = checkpoint["envelope"].split("\n")
    lines[1] = str(int(lines[1]) + 1)
    checkpoint["envelope"] = "\n".join(lines)


def drop_token(bundled: Bundled) -> None:
    """Leave the time-stamp out."""
    bundled.bundle["verificationMaterial"]["timestampVerificationData"] = {"rfc3161Timestamps": []}


def flip_token(bundled: Bundled) -> None:
    """Damage the time-stamp's signature, which stands at its end."""
    stamps = bundled.bundle["verificationMaterial"]["timestampVerificationData"]
    token = stamps["rfc3161Timestamps"][0]
    token["signedTimestamp"] = flip(token["signedTimestamp"], -1)


def other_key(bundled: Bundled) -> None:
    """Resolve the signer to a key that did not sign."""
    bundled.key = World().device.public_key


def test_sigstore_verifies_a_bundle(tmp_path: Path) -> None:
    """Sigstore's own verifier, unmodified, accepts a capture's bundle."""
    bundled = Bundled(*world_with_photo(), Authority.new())
    assert bundled.judged(tmp_path) == (0, "VERIFIED")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (flip_artifact, "SIGNATURE_ERROR"),
        (swap_hash, "TLOG_INCLUSION_PROOF_ERROR"),
        (edit_checkpoint, "TLOG_INCLUSION_PROOF_ERROR"),
        (drop_token, "TIMESTAMP_ERROR"),
        (flip_token, "TIMESTAMP_ERROR"),
        (other_key, "Error"),
    ],
)
def test_sigstore_refuses_a_tampered_bundle(
    tmp_path: Path, change: Callable[[Bundled], None], code: str
) -> None:
    """Each tampering is refused, for its own reason."""
    bundled = Bundled(*world_with_photo(), Authority.new())
    change(bundled)
    status, said = bundled.judged(tmp_path)
    assert status == 1
    assert code in said


def unpacked(folder: Path) -> Path:
    """A package unpacked by the standard library, as a stranger's unzip would."""
    world, capture = world_with_photo()
    with zipfile.ZipFile(written(stamped(world, capture, Authority.new()))) as archive:
        archive.extractall(folder)
    return folder / FOLDER


def bagit(folder: Path) -> int:
    """Exit status of bagit.py over a bag."""
    tool = require_tool("bagit.py")
    done = subprocess.run(
        [tool, "--validate", folder], capture_output=True, check=False, timeout=60
    )
    return done.returncode


def test_bagit_accepts_a_package(tmp_path: Path) -> None:
    """The Library of Congress's validator accepts the bag."""
    assert bagit(unpacked(tmp_path)) == 0


def test_bagit_refuses_a_flipped_byte(tmp_path: Path) -> None:
    """One flipped byte in the original, and the bag is invalid."""
    folder = unpacked(tmp_path)
    original = next((folder / "data" / "originals").iterdir())
    data = bytearray(original.read_bytes())
    data[3] ^= 1
    original.write_bytes(data)
    assert bagit(folder) != 0
