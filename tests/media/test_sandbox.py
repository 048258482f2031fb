"""The sandbox's walls hold, its outcomes are told apart, and it survives what happens to it."""

import io
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from evidence.media.findings import FACETS, Finding, State
from service.captures import frames, seccomp
from service.captures.artifacts import installed_artifacts
from service.captures.confine import Limits
from service.captures.sandbox import InspectionResult, Sandbox, SandboxUnavailable
from service.captures.warden import Warden
from tests.media import material as m

MAKES_WALLS = seccomp.is_supported(os.uname().machine)
COVERAGE = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE")}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A running sandbox."""
    with Sandbox(environment=COVERAGE) as running:
        yield running


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photo with Exif and XMP."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(m.jpeg(m.exif_segment(), m.xmp_segment()))
    return path


def codes(result: InspectionResult) -> list[str]:
    """Codes of a result's findings."""
    return [finding.code for finding in result.findings]


def test_a_photo_is_read_inside(sandbox: Sandbox, photo: Path) -> None:
    """Facts, states, walls, tools and costs come back."""
    result = sandbox.inspect(photo, photo.stat().st_size, "image/jpeg")
    assert (result.outcome, codes(result), result.states["exif"]) == ("ok", [], State.READ)
    assert json.loads(result.facts_json)["exif"]["make"] == "Fengni"
    assert result.isolation[:1] == ("rlimits",)
    assert {tool.name for tool in result.tools} >= {"exifread", "c2pa-python", "fengni-media"}
    assert (result.wall_ms < 2000, 0 < result.peak_kib < 1024 * 1024) == (True, True)


def test_an_open_descriptor_keeps_its_position(sandbox: Sandbox, photo: Path) -> None:
    """Content can be handed over as a descriptor, which the caller goes on using."""
    with photo.open("rb") as file:
        file.seek(7)
        result = sandbox.inspect(file.fileno(), photo.stat().st_size, "image/jpeg")
        assert (result.outcome, os.lseek(file.fileno(), 0, os.SEEK_CUR)) == ("ok", 7)


def test_previews_come_back_or_say_why_not(sandbox: Sandbox, photo: Path, tmp_path: Path) -> None:
    """A picture gives a JPEG without metadata; other content gives a finding."""
    made = sandbox.preview(photo)
    text = tmp_path / "text.txt"
    text.write_bytes(b"no picture")
    refused = sandbox.preview(text)
    assert isinstance(made, bytes)
    assert (made[:2], b"Fengni" in made) == (b"\xff\xd8", False)
    assert isinstance(refused, Finding)
    assert refused.code == "format_unsupported"


def test_content_that_is_not_there_is_the_callers_fault(sandbox: Sandbox, tmp_path: Path) -> None:
    """A missing file is an error of the service, not a finding about evidence."""
    with pytest.raises(FileNotFoundError):
        sandbox.inspect(tmp_path / "missing", 0, "image/jpeg")


@pytest.mark.skipif(not MAKES_WALLS, reason="no seccomp table for this machine")
@pytest.mark.parametrize(
    "attempt",
    ["network", "network_raw", "local_socket", "open", "create", "exec", "fork", "signal"],
)
def test_what_a_decoder_must_not_do_is_refused(sandbox: Sandbox, attempt: str) -> None:
    """Sockets, files, programs, processes and signals to others are refused by the kernel."""
    outcome, met, isolation = sandbox.probe(attempt)
    assert (outcome, met, "seccomp" in isolation) == ("ok", "EPERM", True)


@pytest.mark.parametrize(
    ("attempt", "outcomes"),
    [
        ("memory", {"killed_memory"}),
        ("wait", {"timeout"}),
        ("segfault", {"crashed"}),
        ("kill", {"crashed"}),
        ("abort", {"crashed"}),
    ],
)
def test_each_end_has_its_name(sandbox: Sandbox, attempt: str, outcomes: set[str]) -> None:
    """Out of memory, out of time and death by a signal are told apart."""
    assert sandbox.probe(attempt)[0] in outcomes


def test_processor_time_is_limited() -> None:
    """A loop is ended by its processor time when the clock would let it go on."""
    with Sandbox(limits=Limits(cpu_s=0.2, wall_s=30)) as running:
        assert running.probe("cpu")[0] == "killed_cpu"


def test_time_by_the_clock_is_limited() -> None:
    """A job that waits is ended by the clock, within the limit and a little more."""
    with Sandbox(limits=Limits(wall_s=0.3)) as running:
        began = time.monotonic()
        outcome, _, _ = running.probe("wait")
        assert (outcome, time.monotonic() - began < 3) == ("timeout", True)


def test_a_reader_that_is_killed_in_the_middle_is_a_finding(photo: Path) -> None:
    """Without time for its facts, a job leaves every facet unreadable and says so."""
    with Sandbox(limits=Limits(wall_s=0.000_1)) as running:
        result = running.inspect(photo, photo.stat().st_size, "image/jpeg")
        preview = running.preview(photo)
    assert (result.outcome, codes(result)) == ("timeout", ["inspection_cut_short"])
    assert (set(result.states.values()), result.facts_json) == ({State.PRESENT_UNREADABLE}, b"")
    assert isinstance(preview, Finding)
    assert preview.code == "inspection_cut_short"


def test_a_zygote_that_dies_is_replaced(photo: Path) -> None:
    """After the zygote was killed, the next job starts another."""
    with Sandbox() as running:
        first = running.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        result = running.inspect(photo, photo.stat().st_size, "image/jpeg")
        assert (result.outcome, running.pid != first) == ("ok", True)


def test_a_zygote_that_dies_under_a_job_is_replaced_once() -> None:
    """A job whose zygote is killed twice is told as a crash; the service goes on."""
    with Sandbox(limits=Limits(wall_s=20, cpu_s=10)) as running:
        ended: list[str] = []
        job = threading.Thread(target=lambda: ended.append(running.probe("wait")[0]))
        job.start()
        killed: set[int] = set()
        deadline = time.monotonic() + 60
        while job.is_alive() and time.monotonic() < deadline:
            pid = running.pid
            if pid is not None and pid not in killed and has_child(pid):
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            time.sleep(0.02)
        job.join()
        assert (ended, len(killed)) == (["crashed"], 2)
        assert running.probe("network")[0] == "ok"


def has_child(pid: int) -> bool:
    """Whether a process has a child."""
    try:
        return bool(Path(f"/proc/{pid}/task/{pid}/children").read_text())
    except OSError:
        return False


def lives(pid: int) -> bool:
    """Whether a process runs; one that only waits to be buried does not."""
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_children_do_not_outlive_the_sandbox() -> None:
    """Closing ends the zygote and the job that it was running."""
    running = Sandbox(limits=Limits(wall_s=60, cpu_s=30))
    running.start()
    job = threading.Thread(target=running.probe, args=("wait",))
    job.start()
    zygote = running.pid
    assert zygote is not None
    while not has_child(zygote):
        time.sleep(0.01)
    child = int(Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()[0])
    # The order is repeated once in a new zygote, which a second close ends as well.
    running.close()
    while job.is_alive():
        running.close()
        time.sleep(0.05)
    job.join()
    deadline = time.monotonic() + 5  # the kernel's signal to the child takes its time
    while lives(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (lives(child), lives(zygote)) == (False, False)


def test_many_threads_share_it(sandbox: Sandbox, tmp_path: Path) -> None:
    """Jobs from many threads do not mix up their answers."""
    paths: list[Path] = []
    for number in range(24):
        packet = m.XMP.replace(b"Rendered demo camera", b"Camera %02d" % number)
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(m.jpeg(m.xmp_segment(packet)))
        paths.append(path)
    with ThreadPoolExecutor(8) as pool:
        results = pool.map(lambda path: sandbox.inspect(path, 1, "image/jpeg"), paths)
        models = [json.loads(result.facts_json)["xmp"]["model"] for result in results]
    assert models == [f"Camera {number:02d}" for number in range(24)]


def test_trust_anchors_travel_with_the_order(photo: Path) -> None:
    """Anchors up to the limit arrive; more are refused before anything starts."""
    anchors = "-" * (128 * 1024)
    with Sandbox(trust_anchors=anchors) as running:
        assert running.inspect(photo, photo.stat().st_size, "image/jpeg").outcome == "ok"
    with pytest.raises(ValueError, match="at most"):
        Sandbox(trust_anchors=anchors + "-")


def test_a_zygote_that_does_not_start_is_named() -> None:
    """A broken installation is an error of its own, not a finding about a file."""
    running = Sandbox(environment={"PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere"})
    with pytest.raises(SandboxUnavailable):
        running.start()
    running.close()


def test_the_zygote_inherits_no_environment(sandbox: Sandbox) -> None:
    """Secrets in the service's environment do not reach the process that reads files."""
    names = {
        entry.split(b"=")[0].decode()
        for entry in Path(f"/proc/{sandbox.pid}/environ").read_bytes().split(b"\x00")
        if entry
    }
    assert names - {name for name in names if name.startswith("COVERAGE")} == {
        "LC_ALL", "PYTHONPATH", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS",
        "OPENCV_IO_MAX_IMAGE_PIXELS", "OPENCV_LOG_LEVEL",
    }  # fmt: skip


def test_a_zygote_that_stands_still_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """When neither the job's alarm nor the zygote answers, the warden stops waiting."""
    monkeypatch.setattr("service.captures.warden.LATE_S", 0.2)
    warden = Warden(limits=Limits(wall_s=0.2), environment={})
    warden.start()
    pid = warden.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    with Path(os.devnull).open("rb") as nothing:
        ended = warden.run({"job": "probe", "probe": "wait"}, nothing.fileno())
    assert (ended.outcome, ended.isolation) == ("timeout", ())


# ---------------------------------------------------------------------------- what a
# taken-over process could send


def test_forged_answers_are_not_believed(sandbox: Sandbox, photo: Path) -> None:
    """Facts of another form than ours are dropped; the file is called unreadable."""
    from service.captures.sandbox import _read_facts  # noqa: PLC0415

    honest = sandbox.inspect(photo, photo.stat().st_size, "image/jpeg").facts_json
    document = json.loads(honest)
    forged = [
        None,
        b"",
        b"{}",
        b"[1]",
        json.dumps({**document, "exif": {"state": "perfect"}}).encode(),
        json.dumps({**document, "findings": [{"code": "nonsense"}]}).encode(),
        honest.replace(b'"findings":[]', b'"findings":[{"code":"nonsense"}]'),
        honest.replace(b'"findings":[]', b'"findings":[{"surprise":"x"}]'),
        honest.replace(b'"state":"read"', b'"state":"perfect"'),
    ]
    expected = (b"", dict.fromkeys(FACETS, State.PRESENT_UNREADABLE), ())
    assert [_read_facts(raw) for raw in forged] == [expected] * len(forged)
    assert _read_facts(honest)[0] == honest


def test_frames_are_put_together_and_bounded() -> None:
    """Long messages arrive whole; empty frames and endless answers are refused."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    long = os.urandom(100_000)
    with ours, theirs:
        answer = frames.Answer()
        frames.send(theirs, frames.PICTURE, long)
        frames.send(theirs, frames.FACTS, b"")
        for _ in range(4):
            answer.take(ours.recv(2 * frames.PART_BYTES))
    assert (answer.last(frames.PICTURE), answer.last(frames.FACTS)) == (long, b"")
    assert (answer.last(frames.DONE), answer.json(frames.PICTURE), answer.json(frames.FACTS)) == (
        None, {}, {},
    )  # fmt: skip
    for frame in (b"", frames.MORE, frames.MORE + b"F" + b"x" * frames.MAX_ANSWER_BYTES):
        with pytest.raises(ValueError, match="malformed"):
            answer.take(frame)


def test_artifacts_have_a_digest_that_names_their_files() -> None:
    """The same installation gives the same digests, each of another tool."""
    first, again = installed_artifacts(), installed_artifacts()
    digests = {tool.sha256 for tool in first}
    assert (first, len(digests), {len(digest) for digest in digests}) == (again, len(first), {64})


def test_filters_exist_for_both_machines() -> None:
    """Each table gives whole instructions; machines without a table are named."""
    for machine in ("x86_64", "aarch64"):
        assert (len(seccomp.program(machine, 1)) % 8, seccomp.is_supported(machine)) == (0, True)
    assert seccomp.is_supported("riscv64") is False


def test_the_stream_of_a_result_is_canonical(sandbox: Sandbox, photo: Path) -> None:
    """The facts of two runs are the same bytes: their digest can stand in a statement."""
    size = photo.stat().st_size
    runs = {sandbox.inspect(photo, size, "image/jpeg").facts_json for _ in range(3)}
    assert len(runs) == 1
    assert io.BytesIO(runs.pop()).read(1) == b"{"
