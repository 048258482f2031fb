"""Write the reference pages from the registries that the program itself uses.

Does: turns the registries of statement kinds, errors, problems and settings into Markdown beside
this file (`make docs`). tests/architecture/test_docs.py fails when a page is not what this
would write, so no entry can be added without being documented. Refuses to describe anything that
the code does not describe: an entry without a sentence of its own is an error.
"""

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import typer
from litestar import Litestar

from evidence import schema
from evidence.errors import EvidenceError
from evidence.kinds import ALL
from evidence.kinds.members import Kind
from evidence.report import CHECKS, NOT_PROVEN, PROVEN, RUNGS, Outcome
from service.app import create_app
from service.cli import app as cli
from service.law.refusals import Refusal
from service.openapi import describe
from service.problems import REGISTRY
from service.production import REFUSED
from service.settings import PREFIX, Settings
from storage.errors import StorageError

FOLDER = Path(__file__).resolve().parent
HEAD = "<!-- Written by docs/reference/generate.py (`make docs`); edit the code it reads. -->\n\n"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """One Markdown table; a bar inside a cell is escaped."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def sentence(documented: object) -> str:
    """The first paragraph of a docstring, on one line.

    Raises:
        ValueError: there is none.
    """
    text = inspect.getdoc(documented)
    if not text:
        message = f"{documented} has no docstring"
        raise ValueError(message)
    return " ".join(text.split("\n\n", 1)[0].split())


def attributes(documented: type) -> dict[str, str]:
    """The entries of a docstring's `Attributes:` section: name to description."""
    section = (inspect.getdoc(documented) or "").partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.+?)(?=^    \w+: |\Z)", section, re.MULTILINE | re.DOTALL)
    return {name: " ".join(text.split()) for name, text in found}


def descendants(root: type[Exception]) -> list[type[Exception]]:
    """The class and everything of ours below it, parents first, siblings by name."""
    found = [root]
    for child in sorted(root.__subclasses__(), key=lambda one: one.__name__):
        public = not child.__name__.startswith("_")  # a private one never leaves its module
        if public and child.__module__.split(".")[0] in {"evidence", "storage", "service"}:
            found += descendants(child)
    return found


def rule(field: schema.Field) -> str:  # noqa: C901, PLR0911  # one case a form
    """One member's rule in words, from the same description that the parser checks."""
    match field:
        case schema.Text(longest=longest, pattern=None):
            return f"text of 1 to {longest} characters"
        case schema.Text(longest=longest, pattern=pattern):
            return f"text of 1 to {longest} characters, `{pattern}`"
        case schema.Hex(size_bytes=size):
            return f"{2 * size} lowercase hexadecimal digits ({size} bytes)"
        case schema.Base64(longest_bytes=longest):
            return f"base64 of 1 to {longest} bytes"
        case schema.Integer(lowest=lowest, highest=highest):
            return f"integer from {lowest} to {highest}"
        case schema.Flag():
            return "`true` or `false`"
        case schema.Choice(words=words):
            return "one of " + ", ".join(f"`{word}`" for word in words)
        case schema.Time():
            return "time in UTC with milliseconds, `2026-11-23T09:00:00.000Z`"
        case schema.Sequence(member=member, longest=longest):
            return f"list of up to {longest}, each: {rule(member)}"
        case schema.Record(members=members):
            return "object of " + ", ".join(f"`{name}`" for name in members)
        case _:
            message = f"no words for {field}"
            raise ValueError(message)


def member_rows(record: schema.Record, path: str = "") -> Iterable[tuple[str, str, str]]:
    """Rows (member, presence, rule) of a record, nested records and lists of records unfolded."""
    for name, field in record.members.items():
        key = path + name.removesuffix("?")
        yield f"`{key}`", "optional" if name.endswith("?") else "always", rule(field)
        inner = field.member if isinstance(field, schema.Sequence) else field
        if isinstance(inner, schema.Record):
            yield from member_rows(inner, key + ("[]." if inner is not field else "."))


def kind_section(kind: Kind) -> str:
    """One kind: what it says, who signs it, its members and its literal example."""
    parts = [f"## `{kind.name}`\n", f"{kind.says}\n"]
    signers = ", ".join(f"`{role.value}`" for role in sorted(kind.signers))
    parts.append(f"Type `{kind.type}`; signed by a key enrolled as {signers}.")
    if kind.needs_about:
        parts.append("The envelope's `about` must be there.")
    parts.append("\n" + table(("member of `body`", "there", "rule"), member_rows(kind.body)))
    for word, names in kind.demanded.items():
        needed = ", ".join(f"`{name}`" for name in sorted(names))
        parts.append(f"With `{kind.selector}` = `{word}`: {needed} must be there.\n")
    for name, word in kind.reserved.items():
        parts.append(f"`{name}` may be there only with `{kind.selector}` = `{word}`.\n")
    example = json.dumps(kind.example, ensure_ascii=False, indent=2)
    parts.append(f"A body that the schema accepts:\n\n```json\n{example}\n```\n")
    return "\n".join(parts)


def statements_page() -> str:
    """Every kind of statement."""
    intro = (
        "# Statements\n\nEvery kind of statement, from `evidence/kinds/`. The envelope around "
        "`body` is described in [the evidence format](../evidence-format.md). A member that is "
        "not named here is refused.\n\n"
    )
    return intro + "\n".join(kind_section(kind) for kind in ALL)


def errors_page() -> str:
    """Every error, by whose fault it is."""
    families: tuple[tuple[str, type[Exception]], ...] = (
        ("The bytes are wrong (`evidence.errors`)", EvidenceError),
        ("The store is at fault (`storage.errors`)", StorageError),
        ("The rules say no (`service.law.refusals`)", Refusal),
    )
    parts = ["# Error codes\n\nStable codes, as they stand in reports, problems and findings.\n"]
    for title, root in families:
        classes: list[Any] = descendants(root)
        rows = [(f"`{one.code}`", f"`{one.__name__}`", sentence(one)) for one in classes]
        parts.append(f"## {title}\n\n" + table(("code", "class", "means"), rows))
    return "\n".join(parts)


def problems_page() -> str:
    """Every problem code of the HTTP interface."""
    intro = (
        "# Problems\n\nEvery answer that is an error is an RFC 9457 document "
        "(`application/problem+json`) with one of these codes; `type` is `/problems/<code>`.\n\n"
    )
    rows = [(f"`{p.code}`", str(p.status), p.title, p.title_zh) for p in REGISTRY.values()]
    return intro + table(("code", "status", "title", "中文"), rows)


def commands() -> list[tuple[str, Any]]:
    """Every command of `fengni`, subcommands after their group's name."""
    found: list[tuple[str, Any]] = []
    groups: list[tuple[str, Any]] = [("fengni", typer.main.get_command(cli))]
    while groups:
        path, group = groups.pop(0)
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                groups.append((f"{path} {name}", command))
            else:
                found.append((f"{path} {name}", command))
    return found


def command_section(path: str, command: Any) -> str:  # noqa: ANN401  # typer's own, untyped
    """One command: what it does, its arguments and options."""
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    usage = " ".join([path, *(one.metavar or f"{one.name.upper()}" for one in arguments)])
    rows: list[tuple[str, ...]] = []
    for one in command.params:
        names = one.metavar or one.name.upper() if one in arguments else ", ".join(one.opts)
        shown = f"{names} {one.metavar}" if one not in arguments and one.metavar else names
        fallback = "" if one.default in (None, False, ()) else f"`{one.default}`"
        rows.append((f"`{shown}`", "demanded" if one.required else fallback, one.help or ""))
    parts = [f"## `{usage}`\n", f"{command.help}\n"]
    if rows:
        parts.append(table(("argument or option", "default", "means"), rows))
    return "\n".join(parts)


STATUSES = (
    ("0", "done, or passed"),
    ("1", "a firm no; never an accident"),
    ("2", "could not be decided; the same command may be given again"),
    ("64", "wrong usage"),
    ("70", "a defect of the program; this says nothing about what it was given"),
    ("74", "the result or a file could not be written or read, for instance on a full disk"),
    ("130", "interrupted"),
)
"""What the exit status of every command means; see `service.cli`."""


def cli_page() -> str:
    """Every command with every argument and option."""
    intro = (
        "# Command line\n\n`fengni COMMAND --help` says the same.\n\n"
        + table(("status", "means"), STATUSES)
        + "\nA command that takes `--json` writes one JSON document to standard output, also when "
        'it fails: `{"error": {"code": "…", "detail": "…"}}`. The code is a '
        "[problem's](problems.md) where the server or a rule refused, else a word of its own such "
        "as `misused` or `undecided`.\n\nVerifying needs none of this: "
        "[`python -m evidence verify`](../how-to/verify-a-package.md) runs without the server's "
        "libraries.\n\n"
    )
    return intro + "\n".join(command_section(path, command) for path, command in commands())


def settings_page() -> str:
    """Every environment variable.

    Raises:
        ValueError: a field is not described in the struct's docstring.
    """
    described = attributes(Settings)
    rows: list[tuple[str, ...]] = []
    for field in msgspec.structs.fields(Settings):
        if field.name not in described:
            message = f"Settings.{field.name} is not described"
            raise ValueError(message)
        default = "demanded" if field.required else f"`{field.default}`"
        rows.append((f"`{PREFIX}{field.name.upper()}`", default, described[field.name]))
    intro = (
        "# Settings\n\nRead once at the start from the environment; an unknown variable that "
        f"begins with `{PREFIX}` stops the start. Sizes are in bytes, times in seconds.\n\n"
    )
    refused = [(f"`{code}`", f"{said[0].upper()}{said[1:]}.") for code, said in REFUSED.items()]
    production = (
        "\n## What production mode refuses\n\n`FENGNI_MODE=production` does not start on any of"
        " these, and names the code. Development mode starts and warns.\n\n"
    )
    found = table(("variable", "default", "means"), rows)
    return intro + found + production + table(("code", "refused because"), refused)


def checks_page() -> str:
    """Every check of a verification."""
    rows = [
        (f"`{name}`", check.proves, check.threat, "yes" if check.decides else "no")
        for name, check in CHECKS.items()
    ]
    outcomes = ", ".join(f"`{outcome}`" for outcome in Outcome)
    rungs = " → ".join(f"`{rung}`" for rung in RUNGS)
    return (
        "# Checks\n\nWhat `verify` asks, in the order of "
        "[its procedure](../evidence-format.md#10-the-procedure). An answer is one of four: "
        f"{outcomes}; a check that was not reached has none. A check that decides keeps the whole "
        "package from passing when it cannot confirm; content that changed always does.\n\n"
        + table(("check", "proves, when it passes", "stops", "decides"), rows)
        + f"\nThe ladder of each capture: {rungs}.\n\n{PROVEN}\n\n{NOT_PROVEN}\n"
    )


def route_section(method: str, path: str, operation: Mapping[str, Any]) -> str:
    """One route: what it is for, what it takes, what it answers."""
    parts = [f"## `{method.upper()} {path}`\n", f"{operation['summary']}.\n"]
    if operation.get("description"):
        parts.append(f"{operation['description']}\n")
    parts.append("" if operation.get("security") else "Needs no bearer token.\n")
    rows: list[tuple[str, ...]] = []
    for one in operation.get("parameters", []):
        needed = "always" if one.get("required") else "optional"
        rows.append((f"`{one['name']}`", one["in"], needed, one.get("description", "")))
    if rows:
        parts.append(table(("parameter", "in", "there", "means"), rows))
    statuses = ", ".join(f"`{status}`" for status in operation["responses"] if status != "default")
    parts.append(f"Answers {statuses}, or a [problem](problems.md).\n")
    return "\n".join(part for part in parts if part)


def application() -> Litestar:
    """The application as it would be served; nothing is opened before it runs."""
    return create_app(Settings(folder=Path("nowhere"))).app


def http_page() -> str:
    """Every route."""
    document = describe(application())
    intro = (
        "# HTTP interface\n\nThe same description, with the form of every body, is served at "
        "`/openapi.json` and, as a page that loads nothing, at `/docs`. A bearer token goes into "
        "`Authorization: Bearer …`. A query parameter that a route does not list, or one that is "
        "given twice, is refused with 422 and its name.\n\n"
    )
    return intro + "\n".join(
        route_section(method, path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    )


PAGES: Mapping[str, Callable[[], str]] = {
    "statements.md": statements_page,
    "checks.md": checks_page,
    "cli.md": cli_page,
    "errors.md": errors_page,
    "http.md": http_page,
    "problems.md": problems_page,
    "settings.md": settings_page,
}


def write_pages() -> None:
    """Write every page beside this file."""
    for name, page in PAGES.items():
        (FOLDER / name).write_text(HEAD + page(), "utf-8")


if __name__ == "__main__":
    write_pages()
