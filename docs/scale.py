"""Write docs/scale.md: what a province needs, recomputed from its parameters and measured unit costs.

    python docs/scale.py                     writes the page
    python docs/scale.py --captures 5000000  prints it for other parameters

Does: multiplies. Refuses a figure that is neither a parameter nor measured: each unit cost names the
command that measured it and the load that the machine had then.
"""

import argparse
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

PAGE = Path(__file__).resolve().parent / "scale.md"
DAY_S = 86_400
KEEPALIVE_S = 75
"""`keepalive_timeout` of deploy/nginx.conf."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Province:
    """What is asked for, and what is chosen.

    Attributes:
        devices: that are enrolled.
        captures: announced each day.
        terabytes: of content each day, 10^12 bytes.
        peak: how many times the mean the busiest minutes are.
        node_cores: of one web node or worker.
        busy: share of a processor that is planned for at the peak.
        retention_years: for how long contents are kept.
        copies: of each content that the store keeps (replication or erasure coding).
        price: of one terabyte kept for one month, in whatever currency.
        network_gbit: of the store's and of each node's network.
        disk_mb: what one store's disk writes and reads back in a second.
    """

    devices: int = 100_000
    captures: int = 2_000_000
    terabytes: float = 8.0
    peak: float = 10.0
    node_cores: int = 8
    busy: float = 0.5
    retention_years: float = 1.0
    copies: float = 2.0
    price: float = 20.0
    network_gbit: float = 10.0
    disk_mb: float = 200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """What one of each costs, as measured; the page names how.

    Attributes:
        announce_ms: processor time of a node for an announcement that comes alone.
        batched_ms: the same in a batch of 50.
        database_ms: processor time of the database server for an announcement that comes alone.
        content_ms: processor time of a node for one content of 1 MiB: received, stored, read back,
            looked at in the sandbox, with its two statements.
        megabyte_ms: of a node for each further megabyte.
        leaves: of one capture with content: `capture`, `stored`, `inspected`.
        rows: in the database for one capture with content.
        row_bytes: in the database for one capture with content, indexes included.
        published_bytes: tiles, texts and checkpoints for one leaf.
        request_bytes: of an announcement.
        receipt_bytes: of its answer.
        leader_leaves: leaves in a second that one log's leader committed, one announcement each.
    """

    announce_ms: float
    batched_ms: float
    database_ms: float
    content_ms: float
    megabyte_ms: float
    leaves: int
    rows: float
    row_bytes: float
    published_bytes: float
    request_bytes: float
    receipt_bytes: float
    leader_leaves: float


MEASURED = Units(
    announce_ms=15.4,
    batched_ms=1.95,
    database_ms=4.55,
    content_ms=151.0,
    megabyte_ms=14.1,
    leaves=3,
    rows=9.7,
    row_bytes=18_514,
    published_bytes=1600,
    request_bytes=800,
    receipt_bytes=3880,
    leader_leaves=179,
)
SOURCES = {
    "announce_ms": "`bench_units.py`, one by one",
    "batched_ms": "`bench_units.py`, batches of 50",
    "database_ms": "`bench_units.py`, one by one",
    "content_ms": "`bench_units.py`, contents of 1 MiB into a local directory, less the announcement",
    "megabyte_ms": "[performance](performance.md): 142 MB/s with two processors, the client's among them",
    "leaves": "`capture`, `stored`, `inspected`",
    "rows": "`bench_units.py`, contents",
    "row_bytes": "`bench_units.py`, contents",
    "published_bytes": "`bench_units.py`, contents, over its leaves",
    "request_bytes": "`bench_units.py`, one by one",
    "receipt_bytes": "`bench_units.py`, one by one",
    "leader_leaves": "[performance](performance.md), PostgreSQL, the lower of two runs at a load of 7",
}


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that may break: what is asked of it at the peak, and what one of it gives."""

    what: str
    asked: float
    gives: float
    unit: str
    remedy: str

    @property
    def count(self) -> int:
        """How many are needed."""
        return math.ceil(self.asked / self.gives)


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def needs(p: Province, u: Units) -> list[Need]:
    """Everything that may break, the scarcest first."""
    each_s = p.captures / DAY_S * p.peak
    megabytes_s = p.terabytes * 1e6 / DAY_S * p.peak
    core = 1000 * p.busy
    connections = each_s * KEEPALIVE_S * 2
    found = [
        Need(
            "a log's leader, leaves",
            each_s * u.leaves,
            u.leader_leaves * p.busy,
            "/s",
            "one log for each county or organ; stored and inspected come in batches and may lag",
        ),
        Need(
            "disks of the store, written and read back",
            megabytes_s * (p.copies + 1),
            p.disk_mb,
            " MB/s",
            "more disks",
        ),
        Need(
            "network of a node, in and on to the store and back",
            megabytes_s * 3 * 8 / 1000,
            p.network_gbit * p.busy,
            " Gbit/s",
            "more nodes, or a faster network between nodes and store",
        ),
        Need(
            "processors for contents",
            each_s * u.content_ms + megabytes_s * u.megabyte_ms,
            core,
            " ms/s",
            "more nodes and workers; inspection may lag",
        ),
        Need(
            "processors for announcements",
            each_s * u.announce_ms,
            core,
            " ms/s",
            "more web nodes; drones announce in batches",
        ),
        Need(
            "processors of the database",
            each_s * u.database_ms * u.leaves,
            core,
            " ms/s",
            "a larger server; logs on servers of their own",
        ),
        Need(
            "connections of the proxy",
            connections,
            16_384 * p.busy,
            "",
            "more worker processes, a shorter keepalive",
        ),
    ]
    return sorted(found, key=lambda one: one.asked / one.gives, reverse=True)


def arithmetic(p: Province, u: Units) -> list[tuple[str, str, str]]:
    """The table: what, how it is computed, what comes out."""
    mean, megabytes = p.captures / DAY_S, p.terabytes * 1e6 / DAY_S
    peak, peak_mb = mean * p.peak, megabytes * p.peak
    announcing = peak * u.announce_ms / 1000 / p.busy
    contents = (peak * u.content_ms + peak_mb * u.megabyte_ms) / 1000 / p.busy
    database = peak * u.database_ms * u.leaves / 1000 / p.busy
    nodes = math.ceil((announcing + contents) / p.node_cores)
    logs = math.ceil(peak * u.leaves / (u.leader_leaves * p.busy))
    rows, grown = p.captures * u.rows, p.captures * u.row_bytes
    published = p.captures * u.leaves * u.published_bytes
    kept_tb = p.terabytes * 365 * p.retention_years
    return [
        (
            "announcements, mean and peak",
            "captures / 86,400 s × peak",
            f"{mean:.0f}/s, {peak:.0f}/s",
        ),
        (
            "content, mean and peak",
            "terabytes / 86,400 s × peak",
            f"{megabytes:.0f} MB/s, {peak_mb:.0f} MB/s",
        ),
        ("bandwidth in at the peak", "content × 8 bits", f"{peak_mb * 8 / 1000:.1f} Gbit/s"),
        (
            "announcements and receipts at the peak",
            "peak × (request + receipt) × 8 bits",
            f"{peak * (u.request_bytes + u.receipt_bytes) * 8 / 1e6:.0f} Mbit/s",
        ),
        ("processors for announcements", "peak × ms / busy", f"{announcing:.1f}"),
        ("processors for contents", "(peak × ms + peak MB/s × ms) / busy", f"{contents:.0f}"),
        (f"nodes of {p.node_cores} processors", "(both) / processors of a node", f"{nodes}"),
        ("processors of the database server", "peak × leaves × ms / busy", f"{database:.1f}"),
        ("rows a day", "captures × rows", f"{rows / 1e6:.0f} million"),
        (
            "database growth",
            "captures × bytes",
            f"{grown / 1e9:.0f} GB a day, {grown * 365 / 1e12:.1f} TB a year",
        ),
        (
            "leaves a year",
            "captures × leaves × 365",
            f"{p.captures * u.leaves * 365 / 1e9:.1f} thousand million",
        ),
        (
            "tiles and texts",
            "leaves × bytes",
            f"{published / 1e9:.1f} GB a day, {published * 365 / 1e12:.2f} TB a year",
        ),
        ("log shards", "peak × leaves / (leaves of a leader × busy)", f"{logs}, each ended yearly"),
        (
            "contents kept",
            "terabytes × 365 × years",
            f"{kept_tb:,.0f} TB, {kept_tb * p.copies:,.0f} TB on disks",
        ),
        (
            "storage cost",
            "contents kept × copies × price",
            f"{kept_tb * p.copies * p.price:,.0f} a month at a price of {p.price:g}",
        ),
        ("phones connected at the peak", "peak × keepalive of 75 s", f"{peak * KEEPALIVE_S:,.0f}"),
        ("captures of one device a day", "captures / devices", f"{p.captures / p.devices:.0f}"),
    ]


def render(p: Province, u: Units = MEASURED) -> str:
    """The page."""
    parameters = table(
        ("parameter", "value"),
        ((f"`{one.name}`", f"{getattr(p, one.name):,}") for one in fields(p)),
    )
    units = table(
        ("unit cost", "measured", "by"),
        (
            (f"`{one.name}`", f"{getattr(u, one.name):,.10g}", SOURCES[one.name])
            for one in fields(u)
        ),
    )
    breaking = table(
        ("what", "asked at the peak", "one gives", "so many are needed", "then"),
        (
            (
                one.what,
                f"{one.asked:,.0f}{one.unit}",
                f"{one.gives:,.0f}{one.unit}",
                str(one.count),
                one.remedy,
            )
            for one in needs(p, u)
        ),
    )
    first = needs(p, u)[0].what
    return f"""\
<!-- Written by docs/scale.py; edit that, or run it with other parameters. -->

# Scale: a province

How much is needed for {p.devices:,} devices, {p.captures:,} captures a day, {p.terabytes:g} TB a day and peaks
of {p.peak:g} times the mean. Everything is a product of parameters below and of unit costs that were measured
with [bench_units.py](../tests/bench/bench_units.py) or stand in [Performance](performance.md). It is
arithmetic, not a test: nobody has run a province. `python docs/scale.py --help` recomputes it.

## Parameters

{parameters}
## Unit costs

{units}
{CONDITIONS}

## The arithmetic

{table(("what", "is", "comes to"), arithmetic(p, u))}
## What breaks first

Of one of each, {first} break first. The list is in that order: what is asked of each at the peak, against
what one of it gives when it is {p.busy:.0%} busy (a disk, all).

{breaking}
Three things do not follow from the table. The database keeps a row for every capture for ever unless old logs'
rows are moved off: at this growth its backup, not its speed, is the first thing that hurts, and yearly logs are
what makes moving possible. A leader's rate was measured with one announcement in each request; in batches one log
takes several times as much. And the peak of contents can be flattened, since a receipt does not wait for the
content: phones may send by night what they announced by day.
"""


CONDITIONS = """\
The run of `bench_units.py`: Linux on 2 processors, Python 3.11, PostgreSQL 18 on the same machine, 400 captures, at
a load of 13 by other work. Processor times on such a machine are upper bounds (a processor that is shared counts
waiting for memory as work), and one announcement at a time is the dearest way: each pays for a whole batch of the
log. Rows and bytes do not depend on the load; a busier log has fewer checkpoints for as many rows."""


def main() -> None:
    """Write the page, or print it for other parameters."""
    parser = argparse.ArgumentParser(description="What a province needs.")
    for one in fields(Province):
        parser.add_argument(f"--{one.name.replace('_', '-')}", type=float, default=None)
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    if not given:
        PAGE.write_text(render(Province()), "utf-8")
        return
    whole = {one.name for one in fields(Province) if one.type in {"int", int}}
    print(  # noqa: T201  it is asked for
        render(replace(Province(), **{k: int(v) if k in whole else v for k, v in given.items()}))
    )


if __name__ == "__main__":
    main()
