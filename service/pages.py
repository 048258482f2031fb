"""The few pages that explain the API to people: its description and its problems.

Does: renders on the server, with a policy that lets a browser load nothing. Refuses scripts.
"""

import html
from collections.abc import Mapping
from typing import Annotated, Any

from litestar import MediaType, Response, get
from litestar.params import PathParameter

from service.edge import AnyRequest
from service.openapi import describe
from service.problems import REGISTRY, Problem

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h2{margin-top:2.5rem;border-top:1px solid #ccc;padding-top:1rem}code,pre{font:14px/1.4 monospace}
.method{display:inline-block;min-width:4rem;font-weight:700;color:#7a2e1d}
pre{background:#f5f2ec;padding:.75rem;overflow-x:auto}table{border-collapse:collapse}
td,th{border:1px solid #ccc;padding:.25rem .6rem;text-align:left;vertical-align:top}
"""
_LIMITS = {
    "pattern": "like",
    "minItems": "items at least",
    "maxItems": "items at most",
    "minLength": "characters at least",
    "maxLength": "characters at most",
    "minimum": "at least",
    "maximum": "at most",
    "default": "else",
}
"""Words for what a schema says besides its type."""


@get("/openapi.json", sync_to_thread=True, summary="This API as an OpenAPI 3.1 document")
def get_description(request: AnyRequest) -> dict[str, Any]:
    """The whole API."""
    return describe(request.app)


@get("/docs", sync_to_thread=True, media_type=MediaType.HTML, summary="This API as a page")
def get_docs(request: AnyRequest) -> Response[str]:
    """The whole API, for reading."""
    return Response(
        render_page(describe(request.app)),
        media_type=MediaType.HTML,
        headers={"content-security-policy": _POLICY},
    )


@get("/problems/{code:str}", sync_to_thread=False, summary="Explain a problem's code")
def get_problem(
    code: Annotated[str, PathParameter(description="The last part of a problem's `type`.")],
) -> dict[str, str | int]:
    """One line of the registry."""
    if code not in REGISTRY:
        raise Problem("not_found", "There is no such problem.")
    kind = REGISTRY[code]
    return {
        "code": kind.code,
        "status": kind.status,
        "title": kind.title,
        "title_zh": kind.title_zh,
    }


@get("/", sync_to_thread=False, media_type=MediaType.HTML, include_in_schema=False)
def get_front() -> Response[str]:
    """Where to go from here."""
    page = (
        "<!doctype html><html lang=en><head><meta charset=utf-8><title>Fengni 封泥</title></head>"
        "<body><h1>Fengni 封泥</h1><p>This server takes captures and proves what it did with"
        " them.</p><ul><li><a href=/docs>The API</a><li><a href=/readyz>Is it ready?</a></ul>"
        "</body></html>"
    )
    return Response(page, media_type=MediaType.HTML, headers={"content-security-policy": _POLICY})


def render_page(document: Mapping[str, Any]) -> str:
    """The same document as one HTML page; every text is escaped."""
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        f"<title>{_text(document['info']['title'])}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{_text(document['info']['title'])} {_text(document['info']['version'])}</h1>",
        "<p>The same as <a href=/openapi.json>openapi.json</a>; no part of it is loaded.</p>",
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts.append(_operation(path, method, operation))
    parts.append("<h2 id=forms>Forms</h2>")
    parts += [_members(name, one) for name, one in document["components"]["schemas"].items()]
    parts.append("<h2 id=problems>Problems</h2><table><tr><th>code<th>status<th>title<th>标题")
    parts += [
        f"<tr id={kind.code}><td><code>{kind.code}</code><td>{kind.status}"
        f"<td>{_text(kind.title)}<td lang=zh>{_text(kind.title_zh)}"
        for kind in REGISTRY.values()
    ]
    parts.append("</table></body></html>")
    return "".join(parts)


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    rows = [
        f"<tr><td><code>{_text(one['name'])}</code><td>{_text(one['in'])}"
        f"<td>{'yes' if one.get('required') else 'no'}<td>{_form(one['schema'])}"
        f"<td>{_text(one.get('description', ''))}"
        for one in operation.get("parameters", [])
    ]
    body = operation.get("requestBody", {})
    answers = [
        f"<tr><td>{_text(status)}<td>{_text(answer['description'])}"
        f"<td>{'<br>'.join(map(_header, answer.get('headers', {})))}"
        f"<td>{_contents(answer)}"
        for status, answer in sorted(operation["responses"].items())
    ]
    table = "<table><tr><th>parameter<th>in<th>required<th>form<th>"
    return (
        f"<h2><span class=method>{_text(method.upper())}</span> <code>{_text(path)}</code></h2>"
        f"<p><b>{_text(operation.get('summary', ''))}</b></p>"
        f"<p>{_text(operation.get('description', ''))}</p>"
        f"{table + ''.join(rows) + '</table>' if rows else ''}"
        f"{'<p>Body: ' + _contents(body) + '</p>' if body else ''}"
        f"<table><tr><th>status<th><th>headers<th>body{''.join(answers)}</table>"
    )


def _header(name: str) -> str:
    return f"<code>{_text(name)}</code>"


def _contents(described: Mapping[str, Any]) -> str:
    """The media types of a body with what each holds."""
    return "<br>".join(
        f"<code>{_text(media_type)}</code>: {_form(content['schema'])}"
        for media_type, content in described.get("content", {}).items()
    )


def _members(name: str, schema: Mapping[str, Any]) -> str:
    """One form with its members."""
    needed = schema.get("required", [])
    rows = [
        f"<tr><td><code>{_text(member)}</code><td>{'yes' if member in needed else 'no'}"
        f"<td>{_form(one)}<td>{_text(one.get('description', ''))}"
        for member, one in schema.get("properties", {}).items()
    ]
    closed = " It has no others." if schema.get("additionalProperties") is False else ""
    return (
        f"<h3 id=form-{_text(name)}>{_text(name)}</h3>"
        f"<p>{_text(schema.get('description', ''))}{closed}</p>"
        + (f"<table><tr><th>member<th>always<th>form<th>{''.join(rows)}</table>" if rows else "")
        + (f"<p>{_form(schema)}</p>" if "enum" in schema else "")
    )


def _form(schema: Mapping[str, Any]) -> str:
    """A schema in a few words; forms with names are linked."""
    if "$ref" in schema:
        name = _text(schema["$ref"].rpartition("/")[2])
        return f"<a href=#form-{name}>{name}</a>"
    if "oneOf" in schema:
        forms = " or ".join(_form(one) for one in schema["oneOf"])
    elif "enum" in schema or "const" in schema:
        words = schema.get("enum", [schema.get("const")])
        forms = "one of " + ", ".join(f"<code>{_text(word)}</code>" for word in words)
    elif schema.get("type") == "array":
        forms = "list of " + (_form(schema.get("items", {})) or "anything")
    else:
        forms = " ".join(_text(schema[key]) for key in ("type", "format") if key in schema)
    limits = [
        f"{word} <code>{_text(schema[key])}</code>"
        for key, word in _LIMITS.items()
        if key in schema
    ]
    return ", ".join([forms, *limits])


def _text(value: object) -> str:
    return html.escape(str(value))
