"""C2PA manifests: what they claim, and whether they hold for these bytes.

Does: asks the C2PA library for its verdict and keeps apart what it keeps apart: a manifest
can be *valid* (it holds for the bytes) without being *trusted* (a known anchor vouches for
its signer), and *invalid* is neither. Refuses every request over the network: the library
fetches remote manifests and identity documents by default (measured: server-side request
forgery from an XMP attribute), so its context forbids both and names no allowed host.

    {"state": "read", "validation": "valid", "failures": ["signingCredential.untrusted"]}

Source: C2PA 2.x §15 (validation); CAWG Identity 1.x for `cawg.` codes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, cast

import c2pa

from evidence.errors import MediaInvalid
from evidence.media.findings import Finding, State
from evidence.media.foreign import guarded
from evidence.media.text import clean

# The manifest binds the whole file: the library hashes it. 256 MiB takes half a second.
MAX_FILE_BYTES = 256 * 1024 * 1024
# A verdict names a handful of codes; a crafted manifest could name thousands.
MAX_CODES = 32
_IDENTITY_OFFLINE = "cawg.ica.did_unavailable"
_UNTRUSTED = "signingCredential.untrusted"
_VERDICTS = {"Valid": "valid", "Trusted": "trusted", "Invalid": "invalid"}
_MEDIA_TYPES = frozenset(
    {
        "image/jpeg", "image/png", "image/webp", "image/tiff", "image/heic", "image/heif",
        "image/avif", "video/mp4", "video/quicktime",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class C2paFacts:
    """What the C2PA library found.

    Attributes:
        state: absent, read, present_unreadable or unsupported.
        validation: `valid`, `trusted` or `invalid`; trusted only by anchors handed in.
        failures: failure codes of the active manifest, sorted.
        signer: name of the issuer in the signing certificate.
        signed_at: time that the manifest's own time-stamp names, text as found.
        generator: the program that wrote the claim.
        source_type: the digital source type of the first action that names one (for example
            `digitalCapture` or `trainedAlgorithmicMedia`).
        held_elsewhere: `named` if the manifest is kept at an address, which was not asked.
        findings: what a reader must not overlook.
    """

    state: State
    validation: str | None = None
    failures: tuple[str, ...] = ()
    signer: str | None = None
    signed_at: str | None = None
    generator: str | None = None
    source_type: str | None = None
    held_elsewhere: str | None = None
    findings: tuple[Finding, ...] = ()


def read_c2pa(
    stream: BinaryIO, media_type: str, size_bytes: int, *, trust_anchors: str = ""
) -> C2paFacts:
    """Read and check the manifest of a file in which a walker has seen one.

    Args:
        stream: the whole file, seekable.
        media_type: what `sniff` named.
        size_bytes: length of the file.
        trust_anchors: PEM certificates whose signers count as trusted; none by default.

    Returns:
        Facts; state `present_unreadable` with a finding where the library gave up.
    """
    if size_bytes > MAX_FILE_BYTES:
        return _unreadable("c2pa_too_large")
    if media_type not in _MEDIA_TYPES:
        return C2paFacts(state=State.UNSUPPORTED)
    try:
        report = _ask(stream, media_type, trust_anchors, identities=True)
        codes = _failures(report)
        unchecked = _IDENTITY_OFFLINE in codes
        if unchecked:
            report = _ask(stream, media_type, trust_anchors, identities=False)
        return _facts(report, unchecked=unchecked)
    except _HeldElsewhere:
        finding = Finding(code="c2pa_held_elsewhere", facet="c2pa")
        return C2paFacts(
            state=State.PRESENT_UNREADABLE, held_elsewhere="named", findings=(finding,)
        )
    except MediaInvalid:
        return _unreadable("c2pa_unreadable")


class _HeldElsewhere(MediaInvalid):
    """The library wanted to fetch the manifest and was not allowed to."""


def _unreadable(code: str) -> C2paFacts:
    return C2paFacts(state=State.PRESENT_UNREADABLE, findings=(Finding(code=code, facet="c2pa"),))


def _settings(trust_anchors: str, *, identities: bool) -> dict[str, object]:
    """Return the library's settings: nothing over the network, whatever the file says."""
    trust = {"trust": {"trust_anchors": trust_anchors}} if trust_anchors else {}
    return {
        "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
        "core": {"allowed_network_hosts": [], "decode_identity_assertions": identities},
        **trust,
    }


def _ask(
    stream: BinaryIO, media_type: str, trust_anchors: str, *, identities: bool
) -> Mapping[str, object]:
    """Return the library's report."""

    def ask() -> object:
        """Let the library read; its own errors are told apart outside."""
        wishes = json.dumps(_settings(trust_anchors, identities=identities))
        settings = c2pa.Settings.from_json(wishes)
        stream.seek(0)
        try:
            with (
                c2pa.Context(settings) as context,
                c2pa.Reader(media_type, stream, context=context) as reader,
            ):
                return json.loads(reader.json())
        except c2pa.C2paError as error:
            if str(error).startswith("Remote"):
                raise _HeldElsewhere("The manifest is held elsewhere.") from error
            raise

    return _object(guarded("c2pa", ask))


def _facts(report: Mapping[str, object], *, unchecked: bool) -> C2paFacts:
    """Turn a report into facts."""
    codes = _failures(report)
    verdict = _VERDICTS.get(str(report.get("validation_state")))
    manifests = _object(report.get("manifests"))
    active = _object(manifests.get(str(report.get("active_manifest"))))
    signature = _object(active.get("signature_info"))
    findings = [
        Finding(code=code, facet="c2pa")
        for code, there in (
            ("c2pa_invalid", verdict == "invalid"),
            ("c2pa_untrusted", _UNTRUSTED in codes),
            ("c2pa_identity_unchecked", unchecked),
            ("c2pa_unreadable", verdict is None),
        )
        if there
    ]
    return C2paFacts(
        state=State.READ if verdict else State.PRESENT_UNREADABLE,
        validation=verdict,
        failures=codes,
        signer=_text(signature.get("issuer")),
        signed_at=_text(signature.get("time")),
        generator=_generator(active),
        source_type=_source_type(active),
        findings=tuple(findings),
    )


def _failures(report: Mapping[str, object]) -> tuple[str, ...]:
    """Return the failure codes of the active manifest and of its ingredients' changes."""
    results = _object(report.get("validation_results"))
    parts = [_object(results.get("activeManifest"))]
    deltas = _list(results.get("ingredientDeltas"))
    parts += [_object(_object(delta).get("validationDeltas")) for delta in deltas[:MAX_CODES]]
    failures = [item for part in parts for item in _list(part.get("failure"))]
    codes = {_text(_object(failure).get("code")) for failure in failures}
    return tuple(sorted(code for code in codes if code)[:MAX_CODES])


def _generator(active: Mapping[str, object]) -> str | None:
    """Return the claim generator in its newer or older form."""
    info = _list(active.get("claim_generator_info"))
    name = _object(info[0]).get("name") if info else active.get("claim_generator")
    return _text(name)


def _source_type(active: Mapping[str, object]) -> str | None:
    """Return the last word of the first digital source type among the actions."""
    for assertion in _list(active.get("assertions")):
        data = _object(_object(assertion).get("data"))
        for action in _list(data.get("actions")):
            kind = _text(_object(action).get("digitalSourceType"))
            if kind:
                return kind.rsplit("/", 1)[-1]
    return None


def _object(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else {}


def _list(value: object) -> Sequence[object]:
    return cast("Sequence[object]", value) if isinstance(value, list) else ()


def _text(value: object) -> str | None:
    return clean(value) or None if isinstance(value, str) else None
