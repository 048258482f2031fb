"""The API's description: what Litestar cannot know is completed here, and shown as one page.

Does: closes the schemas that refuse unknown members, documents streamed bodies, problems and the
bearer token, and renders the whole as a page without scripts that loads nothing from anywhere.
Refuses to describe routes by hand: they come from the application itself.
"""

import html
from collections.abc import Mapping
from typing import Any

from litestar import Litestar

from service.problems import MEDIA_TYPE, REGISTRY

Document = dict[str, Any]  # OpenAPI 3.1 is JSON whose depth is anybody's
_CLOSED = ("WireStatement", "Announcement", "ExportRequest")
_PUBLIC = ("/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/logs/", "/problems/")
_PROBLEM: Document = {
    "type": "object",
    "required": ["type", "code", "status", "title", "title_zh", "detail"],
    "properties": {
        "type": {"type": "string"},
        "code": {"enum": sorted(REGISTRY)},
        "status": {"type": "integer"},
        "title": {"type": "string"},
        "title_zh": {"type": "string"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}
_STREAMED = {
    "required": True,
    "description": "The bytes, raw. `Content-Digest: sha-256=:…:` (RFC 9530) is checked.",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h2{margin-top:2.5rem;border-top:1px solid #ccc;padding-top:1rem}code,pre{font:14px/1.4 monospace}
.method{display:inline-block;min-width:4rem;font-weight:700;color:#7a2e1d}
pre{background:#f5f2ec;padding:.75rem;overflow-x:auto}table{border-collapse:collapse}
td,th{border:1px solid #ccc;padding:.25rem .6rem;text-align:left;vertical-align:top}
"""


def describe(app: Litestar) -> Document:
    """The OpenAPI document of an application, complete."""
    document = app.openapi_schema.to_schema()
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name, schema in schemas.items():
        if name.rsplit("_", 1)[-1].rsplit(".", 1)[-1] in _CLOSED:
            schema["additionalProperties"] = False
    schemas["Problem"] = _PROBLEM
    components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete(path, method, operation)
    return document


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
    parts.append("<h2 id=problems>Problems</h2><table><tr><th>code<th>status<th>title<th>标题")
    parts += [
        f"<tr id={kind.code}><td><code>{kind.code}</code><td>{kind.status}"
        f"<td>{_text(kind.title)}<td lang=zh>{_text(kind.title_zh)}"
        for kind in REGISTRY.values()
    ]
    parts.append("</table></body></html>")
    return "".join(parts)


def _complete(path: str, method: str, operation: Document) -> None:
    responses = operation.setdefault("responses", {})
    for status in [status for status in responses if status.startswith("4")]:
        del responses[status]  # Litestar's own form of a problem, which this service never sends
    responses["default"] = {
        "description": "A problem, RFC 9457.",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if not path.startswith(_PUBLIC):
        operation["security"] = [{"bearer": []}]
    if method == "put" and path.endswith("/content"):
        operation["requestBody"] = _STREAMED
        responses["200"] = {**responses["201"], "description": "It had arrived before."}
    if method == "get" and path.endswith("/content"):
        responses["206"] = {**responses["200"], "description": "The range that was asked for."}
    if path == "/readyz":
        responses["503"] = {**responses["200"], "description": "Not ready."}


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    rows = [
        f"<tr><td><code>{_text(one['name'])}</code><td>{_text(one['in'])}"
        f"<td>{'yes' if one.get('required') else 'no'}<td>{_text(one.get('description', ''))}"
        for one in operation.get("parameters", [])
    ]
    bodies = [
        f"<p>Body: <code>{_text(media_type)}</code></p>"
        for media_type in operation.get("requestBody", {}).get("content", {})
    ]
    answers = [
        f"<tr><td>{_text(status)}<td>{_text(answer['description'])}"
        f"<td><code>{_text(', '.join(answer.get('content', {})))}</code>"
        for status, answer in operation["responses"].items()
    ]
    table = "<table><tr><th>parameter<th>in<th>required<th>"
    return (
        f"<h2><span class=method>{_text(method.upper())}</span> <code>{_text(path)}</code></h2>"
        f"<p><b>{_text(operation.get('summary', ''))}</b></p>"
        f"<p>{_text(operation.get('description', ''))}</p>{''.join(bodies)}"
        f"{table + ''.join(rows) + '</table>' if rows else ''}"
        f"<table><tr><th>status<th><th>media type{''.join(answers)}</table>"
    )


def _text(value: object) -> str:
    return html.escape(str(value))
