"""The sandbox: lets a confined process read what strangers sent, and says how that went.

Does: hands content to the zygote's children from any thread and turns what comes back, whole
or in part, into facts and findings. Opens the content itself, read-only, so that the process
that parses it opens nothing. Refuses to raise because of a file: a decoder that dies, eats
memory or never ends is an outcome with findings. Refuses to load a decoder into the service.

    with Sandbox(workers=2) as sandbox:
        result = sandbox.inspect(path, size_bytes, "image/jpeg")
"""

import os
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

from evidence.canonical import parse_canonical
from evidence.errors import EvidenceError
from evidence.media.findings import FACETS, FINDINGS, Finding, State
from service.captures import frames
from service.captures.artifacts import Artifact, installed_artifacts
from service.captures.confine import Limits
from service.captures.warden import Ended, Outcome, SandboxUnavailable, Warden

__all__ = ["InspectionResult", "Limits", "Sandbox", "SandboxUnavailable"]

# Facts are at most 64 KiB of canonical JSON (evidence.media.facts).
MAX_FACTS_BYTES = 64 * 1024
# They travel with each order in one datagram; some eighty certificates.
MAX_ANCHORS_BYTES = 128 * 1024
_CUT_SHORT: Mapping[Outcome, str] = {
    "ok": "The reading process gave no answer.",
    "killed_cpu": "The reading process was stopped: it used too much processor time.",
    "killed_memory": "The reading process was stopped: it asked for too much memory.",
    "timeout": "The reading process was stopped: it took too long.",
    "crashed": "The reading process died.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionResult:
    """What came of reading one file.

    Attributes:
        outcome: how the reading process ended.
        facts_json: canonical JSON of the facts as far as they were read; empty if none were.
        states: state of each facet, by name.
        findings: from the facts, and from how the process ended.
        tools: what read the file.
        isolation: walls that the machine granted: rlimits, no_new_privs, seccomp, netns.
        wall_ms: from fork to end.
        cpu_ms: processor time, all threads.
        peak_kib: largest resident memory, the decoders' own code included.
    """

    outcome: Outcome
    facts_json: bytes
    states: Mapping[str, State]
    findings: tuple[Finding, ...]
    tools: tuple[Artifact, ...]
    isolation: tuple[str, ...]
    wall_ms: int
    cpu_ms: int
    peak_kib: int


class Sandbox:
    """Reads files in confined processes. Thread-safe; its calls block."""

    def __init__(
        self,
        *,
        workers: int = 2,
        limits: Limits | None = None,
        trust_anchors: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare; the zygote starts with the first job or with `start`.

        Args:
            workers: how many files are read at once, ≥ 1.
            limits: what one job may use.
            trust_anchors: PEM certificates whose C2PA signers count as trusted.
            environment: variables for the zygote, which inherits none: the service's
                environment may hold secrets.

        Raises:
            ValueError: the trust anchors are longer than MAX_ANCHORS_BYTES.
        """
        if len(trust_anchors.encode()) > MAX_ANCHORS_BYTES:
            raise ValueError(f"Trust anchors have at most {MAX_ANCHORS_BYTES} bytes.")
        self._places = threading.BoundedSemaphore(workers)
        self._warden = Warden(limits=limits or Limits(), environment=environment or {})
        self._trust_anchors = trust_anchors
        self._tools: tuple[Artifact, ...] = ()
        self._tools_lock = threading.Lock()

    def __enter__(self) -> Self:
        """Start the zygote."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the zygote and its children."""
        self.close()

    def start(self) -> None:
        """Start the zygote now rather than with the first job.

        Raises:
            SandboxUnavailable: it does not come up.
        """
        self._warden.start()

    def close(self) -> None:
        """End the zygote; it takes its children with it. A later job starts another."""
        self._warden.stop()

    @property
    def pid(self) -> int | None:
        """Process id of the zygote, or None while there is none."""
        return self._warden.pid

    def tools(self) -> tuple[Artifact, ...]:
        """Return the tools that read files here; their files are hashed once."""
        with self._tools_lock:
            self._tools = self._tools or installed_artifacts()
            return self._tools

    def inspect(self, content: Path | int, size_bytes: int, media_type: str) -> InspectionResult:
        """Read one file.

        Args:
            content: path, or an open descriptor of a regular file, which stays the caller's.
            size_bytes: announced length.
            media_type: announced media type.

        Returns:
            Facts as far as they were read, findings, and how it ended.

        Raises:
            OSError: the content cannot be opened.
            SandboxUnavailable: the zygote cannot be started.
        """
        order = {
            "job": "inspect",
            "size_bytes": size_bytes,
            "media_type": media_type,
            "trust_anchors": self._trust_anchors,
        }
        tools = self.tools()
        ended = self._run(content, order)
        raw, states, findings = _read_facts(ended.answer.last(frames.FACTS))
        if ended.outcome != "ok" or not raw:
            cut = Finding(code="inspection_cut_short", detail=_CUT_SHORT[ended.outcome])
            findings = (cut, *findings)
        return InspectionResult(
            outcome=ended.outcome,
            facts_json=raw,
            states=states,
            findings=findings,
            tools=tools,
            isolation=ended.isolation,
            wall_ms=int(ended.end.get("wall_ms", 0)),
            cpu_ms=int(ended.end.get("cpu_ms", 0)),
            peak_kib=int(ended.end.get("peak_kib", 0)),
        )

    def preview(self, content: Path | int) -> bytes | Finding:
        """Make a JPEG of at most 1,600 pixels that holds nothing of a file but its pixels.

        Args:
            content: path, or an open descriptor of a regular file, which stays the caller's.

        Returns:
            The JPEG, or the finding that says why there is none.

        Raises:
            OSError: the content cannot be opened.
            SandboxUnavailable: the zygote cannot be started.
        """
        ended = self._run(content, {"job": "preview"})
        picture = ended.answer.last(frames.PICTURE)
        if picture is not None:
            return picture
        code = ended.answer.json(frames.REFUSAL).get("code")
        if code in FINDINGS:
            return Finding(code=str(code), facet="image")
        detail = _CUT_SHORT[ended.outcome]
        return Finding(code="inspection_cut_short", facet="image", detail=detail)

    def probe(self, attempt: str) -> tuple[Outcome, str, tuple[str, ...]]:
        """Attempt from inside what a taken-over decoder would attempt; for `doctor` and tests.

        Args:
            attempt: a name in `jobs.PROBES`.

        Returns:
            How the process ended, what the attempt met (`allowed`, the name of an error, or
            empty if the process did not live to say), and the walls that were granted.
        """
        ended = self._run(Path(os.devnull), {"job": "probe", "probe": attempt})
        met = str(ended.answer.json(frames.PROBED).get("outcome", ""))
        return ended.outcome, met, ended.isolation

    def _run(self, content: Path | int, order: Mapping[str, object]) -> Ended:
        with self._places, _opened(content) as file_fd:
            return self._warden.run(order, file_fd)


@contextmanager
def _opened(content: Path | int) -> Generator[int]:
    """Open content read-only, with a position of its own even where a descriptor is given."""
    path = content if isinstance(content, Path) else Path(f"/proc/self/fd/{content}")
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read_facts(raw: bytes | None) -> tuple[bytes, dict[str, State], tuple[Finding, ...]]:
    """Return facts with their states and findings.

    Threat: the sender may have been taken over by the file. What does not have the form of
    facts is dropped, and all that is left to say is that nothing could be read.
    """
    try:
        facts = cast("dict[str, Any]", parse_canonical(raw or b"", max_bytes=MAX_FACTS_BYTES))
        states = {name: State(facts[name]["state"]) for name in FACETS}
        findings = tuple(Finding(**finding) for finding in facts["findings"])
    except (EvidenceError, ValueError, TypeError, KeyError):
        return b"", dict.fromkeys(FACETS, State.PRESENT_UNREADABLE), ()
    return raw or b"", states, findings
