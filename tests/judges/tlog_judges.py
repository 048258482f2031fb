"""Independent tools that judge a log: what each is asked, and what it answered.

`judge_log` takes a folder of static files or the address of a running server, so that the same
judges read what `evidence` writes in a test and what a real log publishes. Nothing here verifies
anything itself.
"""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from evidence.tlog.checkpoint import parse_checkpoint_body
from evidence.tlog.note import COSIGNATURE_ED25519, ED25519, ML_DSA_44, VerifierKey, parse_note
from tests.tools import (
    GO_CACHE,
    JUDGES_BIN,
    ROOT,
    require_go_mod_sources,
    require_path,
    require_tool,
)

HERE = ROOT / "tests" / "judges"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one judge said.

    Attributes:
        accepted: it exited 0.
        report: the JSON object that it printed, or empty.
        words: its complaint, for people.
    """

    accepted: bool
    report: dict[str, Any]
    words: str


@dataclass(frozen=True, kw_only=True)
class Accused:
    """A log before its judges.

    Attributes:
        place: folder or http address with `checkpoint` and `tile/…` below it.
        checkpoint: a local copy of the checkpoint file that is there.
        log_keys: the log's verifier keys.
        witness_keys: keys of all the witnesses whose cosignatures must be on the checkpoint.
        older: an older checkpoint of the same log, or None.
        every: sumdb judges every n-th leaf (aics-tlog always judges all).
    """

    place: str
    checkpoint: Path
    log_keys: Sequence[VerifierKey]
    witness_keys: Sequence[VerifierKey] = ()
    older: Path | None = None
    every: int = 17

    def vkeys(self, kind: int) -> list[str]:
        """The verifier keys of one type, as text."""
        return [key.encode() for key in (*self.log_keys, *self.witness_keys) if key.kind == kind]


def judge_log(accused: Accused) -> dict[str, Verdict]:
    """Ask every judge about a log; the answers by the judge's name.

    `sumdb` verifies the Ed25519 note, many leaves with their entries, and consistency;
    `crypto/mldsa` the ML-DSA-44 lines of log and witnesses; `aics checkpoint` the note and all
    Ed25519 cosignatures; `aics inclusion` first and last leaf; `aics consistency` the growth;
    `aics audit` every tile and every entry.
    """
    size = checkpoint_size(accused.checkpoint)
    verdicts = {
        "sumdb": ask_sumdb(accused),
        "aics checkpoint": ask_aics(accused, "verify-checkpoint"),
        "aics audit": ask_audit(accused),
    }
    if accused.vkeys(ML_DSA_44):
        verdicts["crypto/mldsa"] = ask_mldsa(accused)
    for index in {0, size - 1}:
        verdict = ask_aics(accused, "verify-inclusion", "--index", str(index))
        if verdicts.setdefault("aics inclusion", verdict).accepted:
            verdicts["aics inclusion"] = verdict
    if accused.older is not None:
        verdicts["aics consistency"] = ask_aics(
            accused, "verify-consistency", "--old-checkpoint", str(accused.older)
        )
    return verdicts


def refusing(verdicts: dict[str, Verdict]) -> dict[str, str]:
    """Who refuses, and in which words."""
    return {name: verdict.words for name, verdict in verdicts.items() if not verdict.accepted}


def checkpoint_size(checkpoint: Path) -> int:
    """The size that a checkpoint states, unverified: it only tells judges where to look."""
    return parse_checkpoint_body(parse_note(checkpoint.read_bytes()).text).size


def ask_sumdb(accused: Accused) -> Verdict:
    """golang.org/x/mod: sumdb/note and sumdb/tlog."""
    (vkey,) = [key.encode() for key in accused.log_keys if key.kind == ED25519]
    older = ["-old", str(accused.older)] if accused.older is not None else []
    command = [go_judge("tlogjudge"), "log", "-vkey", vkey, "-every", str(accused.every), *older]
    return _run(*command, accused.place)


def ask_sumdb_about_proof(proof: Path, entry: str, vkey: str) -> Verdict:
    """golang.org/x/mod about one `.tlog-proof`."""
    return _run(go_judge("tlogjudge"), "proof", "-vkey", vkey, "-entry", entry, str(proof))


def ask_mldsa(accused: Accused) -> Verdict:
    """Go's crypto/mldsa about every ML-DSA-44 key of log and witnesses."""
    judge = go_judge("mldsajudge")
    return _run(judge, "-checkpoint", str(accused.checkpoint), *accused.vkeys(ML_DSA_44))


def ask_aics(accused: Accused, command: str, *arguments: str) -> Verdict:
    """aics-tlog's command line; all Ed25519 witnesses must have cosigned."""
    (log_key,) = [key.encode() for key in accused.log_keys if key.kind == ED25519]
    witnesses = accused.vkeys(COSIGNATURE_ED25519)
    options = [option for vkey in witnesses for option in ("--witness-key", vkey)]
    return _run(
        str(require_tool("aics-tlog")),
        command,
        *("--tiles", accused.place, "--log-key", log_key),
        *(*options, "--quorum", str(len(witnesses)), *arguments),
    )


def ask_audit(accused: Accused) -> Verdict:
    """aics-tlog's audit of every tile and every entry against the stated root."""
    checkpoint = parse_checkpoint_body(parse_note(accused.checkpoint.read_bytes()).text)
    return _run(
        str(require_path(JUDGES_BIN / "python", "the judges' Python")),
        *("-W", "error", str(HERE / "tlog_audit.py")),
        *(accused.place, str(checkpoint.size), checkpoint.root.hex()),
    )


@cache
def go_judge(name: str) -> str:
    """Build one of our Go programs from Debian's sources, without modules; return its path."""
    binary = GO_CACHE / "bin" / name
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(GO_CACHE),
        "GOCACHE": str(GO_CACHE),
        "GOPATH": str(require_go_mod_sources()),
        "GO111MODULE": "off",
        "GOTOOLCHAIN": "local",
        "GOPROXY": "off",
        "GOTELEMETRY": "off",
        "CGO_ENABLED": "0",
    }
    go = str(require_tool("go"))
    subprocess.run(
        [go, "build", "-o", str(binary), f"./{name}"],
        cwd=HERE / "go",
        env=environment,
        check=True,
        timeout=280,
    )
    return str(binary)


def _run(*command: str) -> Verdict:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        report = {}
    words = done.stderr.strip() or str(report.get("error", ""))
    return Verdict(accepted=done.returncode == 0, report=report, words=words)
