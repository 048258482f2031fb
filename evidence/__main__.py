"""`python -m evidence verify PACKAGE --known-keys FILE [--json]`, offline.

Does: opens the two files that the person names, asks the clock, prints the report. The only
file of `evidence` with input and output. Refuses to fetch anything, and to look for known
keys inside the package.

Exit status: 0 every check that decides passed; 1 content changed; 2 cannot decide, and the
report says what is missing; 64 wrong usage, or a file that cannot be read; 70 a defect of this
program; 74 the report could not be written. 1 is never the status of an accident.
"""

import argparse
import io
import json
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn, TextIO, cast

from evidence.errors import EvidenceError
from evidence.known_keys import MAX_BYTES, KnownKeys, parse_known_keys
from evidence.report import NOT_PROVEN, PROVEN, Outcome, Report
from evidence.schema import format_time, parse_time
from evidence.verify import verify_package

EXIT = {Outcome.PASS: 0, Outcome.CHANGED: 1, Outcome.UNCONFIRMED: 2, Outcome.UNCHECKED: 2}
# Source: sysexits of 4.3BSD, EX_USAGE, EX_SOFTWARE and EX_IOERR
USAGE = 64
DEFECT = 70
UNWRITTEN = 74
_MARKS = {
    Outcome.PASS: "ok  ",
    Outcome.CHANGED: "FAIL",
    Outcome.UNCONFIRMED: "?   ",
    Outcome.UNCHECKED: "-   ",
}
_VERDICTS = {
    Outcome.PASS: "PASS: every check that decides has passed.",
    Outcome.CHANGED: "FAIL: something is not what was signed and logged.",
    Outcome.UNCONFIRMED: "CANNOT DECIDE: something that is needed is missing.",
    Outcome.UNCHECKED: "CANNOT DECIDE: nothing was checked.",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = _Parser(prog="python -m evidence", description="Check a Fengni package offline.")
    commands = parser.add_subparsers(dest="command", required=True)
    verify = commands.add_parser("verify", help="check a package against known keys")
    verify.add_argument("package", type=Path)
    verify.add_argument("--known-keys", type=Path, required=True, metavar="FILE")
    verify.add_argument("--json", action="store_true", help="print the report as JSON")
    verify.add_argument("--at", metavar="TIME", help="judge as of this time, not now")
    chosen = parser.parse_args(arguments)
    try:
        at = parse_time(chosen.at) if chosen.at else datetime.now(UTC)  # noqa: TID251
        report = _judge(parser, chosen.package, _known(chosen.known_keys), at)
    except OSError as error:
        name = error.filename or chosen.package
        parser.error(f"cannot read {name}: {error.strerror or 'the file gives no bytes'}")
    except EvidenceError as error:
        parser.error(error.detail)
    except Exception as error:  # whatever it is, it is not a changed package
        traceback.print_exc()
        raise SystemExit(DEFECT) from error
    if chosen.json:
        text = json.dumps(report.to_json(), ensure_ascii=False, indent=2)
    else:
        text = render(report)
    return EXIT[report.outcome] if _written(text) else UNWRITTEN


def _known(path: Path) -> KnownKeys:
    with path.open("rb") as stream:
        return parse_known_keys(stream.read(MAX_BYTES + 1))


def _judge(parser: _Parser, path: Path, known: KnownKeys, at: datetime) -> Report:
    with path.open("rb") as stream:
        if not stream.seekable():
            parser.error(f"cannot read {path}: a package must be a file, not a pipe")
        return verify_package(stream, known, at)


def _written(text: str) -> bool:
    """Print, in whatever characters the terminal has; say whether all of it went out."""
    out = cast("TextIO | None", sys.stdout)  # None where the caller closed it
    if isinstance(out, io.TextIOWrapper):
        # Names of authorities are in any script.
        cast("io.TextIOWrapper[io.BufferedWriter]", out).reconfigure(errors="backslashreplace")
    try:
        print(text, flush=True)
    except OSError as error:
        with suppress(OSError):
            # Else the interpreter tries again at its end and says 120.
            cast("TextIO", sys.stdout).close()
        sys.stderr.write(f"the report could not be written: {error.strerror}\n")
        return False
    return out is not None


def render(report: Report) -> str:
    """Write a report for a person, one plain sentence for each check."""
    lines: list[str] = []
    for capture in report.captures:
        lines += [f"Capture {capture.id}", f"  claimed at {format_time(capture.claimed_at)}"]
        if capture.not_before is not None:
            lines.append(f"  not signed before {format_time(capture.not_before)}")
        if capture.not_after is not None:
            lines.append(f"  first independent time {format_time(capture.not_after)}")
        lines += [
            f"  {_MARKS[rung.outcome]} {rung.name:<13} {rung.detail}" for rung in capture.rungs
        ]
        lines.append("")
    lines.append("Checks")
    for check in report.checks:
        subject = f" [{check.subject[:80]}]" if check.subject else ""
        lines.append(f"  {_MARKS[check.outcome]} {check.name:<21} {check.detail}{subject}")
    return "\n".join(
        [
            *lines,
            "",
            f"Known keys: version {report.known_keys_version}, SHA-256 {report.known_keys_sha256}",
            f"Judged as of {format_time(report.at)}",
            PROVEN,
            NOT_PROVEN,
            _VERDICTS[report.outcome],
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
