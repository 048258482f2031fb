"""The API's description: what Litestar cannot know is completed here.

Does: closes the schemas that refuse unknown members, and documents streamed bodies, conditions,
problems and the bearer token. Refuses to describe routes by hand: they come from the application
itself.
"""

from typing import Any

import msgspec
from litestar import Litestar
from litestar.routes import HTTPRoute

from service.problems import MEDIA_TYPE, REGISTRY

ITEM_OPTION = "item"
"""A route's pair of a member and a form: the items of that list, where it reads them one by one."""

_REF = "#/components/schemas/{name}"

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
_BINARY: Document = {"type": "string", "format": "binary"}
_STREAMED: Document = {
    "required": True,
    "description": "The bytes, raw. `Content-Digest: sha-256=:…:` (RFC 9530) is checked.",
    "content": {"application/octet-stream": {"schema": _BINARY}},
}
_ORIGINAL: Document = {
    media_type: {"schema": _BINARY}
    for media_type in ("application/octet-stream", "image/*", "video/*")
}
_TOLD = {
    "Range": "One range of bytes; several mean the whole.",
    "If-Range": "The tag of the content that the range belongs to; another one means the whole.",
    "If-Match": "Tags of what the asker wants alone; 412 where it is none of these.",
    "If-None-Match": "Tags of what the asker has already; 304 where this is among them.",
    "Content-Digest": "RFC 9530; its sha-256 is checked.",
    "ETag": "The SHA-256 of the whole.",
    "Repr-Digest": "RFC 9530: the SHA-256 of the whole, also beside a part of it.",
    "Content-Range": "Where the part lies, if there is one, and how long the whole is.",
    "Content-Disposition": "A name that the server chose.",
    "Location": "Where the export is shown.",
    "Retry-After": "Whole seconds after which the same request may succeed.",
}
"""What the headers say that a request or an answer may carry."""

_OTHER = "`precondition_failed`: none of the tags in `If-Match` is this content's."


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
    _complete_items(app, document)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete(path, method, operation)
    return document


def _complete_items(app: Litestar, document: Document) -> None:
    """Say what a list holds that its route reads one by one, and that its type leaves open."""
    schemas = document["components"]["schemas"]
    handlers = [
        (route.path_format, handler)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if ITEM_OPTION in handler.opt
    ]
    for path, handler in handlers:
        member, form = handler.opt[ITEM_OPTION]
        (item,), forms = msgspec.json.schema_components([form], ref_template=_REF)
        schemas.update(forms)
        [method] = handler.http_methods
        body = document["paths"][path][method.lower()]["requestBody"]["content"]
        name = body["application/json"]["schema"]["$ref"].rpartition("/")[2]
        schemas[name]["properties"][member]["items"] = item


def _complete(path: str, method: str, operation: Document) -> None:
    responses = operation.setdefault("responses", {})
    for status in [status for status in responses if status.startswith("4")]:
        del responses[status]  # Litestar's own form of a problem, which this service never sends
    for answer in responses.values():
        for media_type, content in answer.get("content", {}).items():
            content["schema"] = _schema_of(media_type, content["schema"])
    responses["default"] = _problem("A problem, RFC 9457.", "Retry-After")
    if not path.startswith(_PUBLIC):
        operation["security"] = [{"bearer": []}]
    if (method, path) == ("post", "/v1/exports"):
        responses["201"]["headers"] = _headers("Location")
    if path.endswith("/package"):
        operation["parameters"] += _parameters("If-Match", "If-None-Match")
        responses["200"]["headers"] = _headers("ETag", "Content-Disposition")
        responses["304"] = {"description": "The asker has it already.", "headers": _headers("ETag")}
        responses["412"] = _problem(_OTHER)
    if path.endswith("/content"):
        _complete_content(method, operation, responses)
    if path == "/readyz":
        responses["503"] = {**responses["200"], "description": "Not ready."}


def _complete_content(method: str, operation: Document, responses: Document) -> None:
    """What streams: the bytes of a capture, in and out."""
    if method == "put":
        operation["parameters"] += _parameters("Content-Digest")
        operation["requestBody"] = _STREAMED
        responses["200"] = {**responses["201"], "description": "It had arrived before."}
        return
    operation["parameters"] += _parameters("Range", "If-Range", "If-Match", "If-None-Match")
    headers = ("ETag", "Repr-Digest", "Content-Disposition")
    responses["200"] = {
        "description": "The original, under its announced media type or as octets where a browser"
        " might run it; or the preview, a JPEG without a tag.",
        "headers": _headers(*headers),
        "content": _ORIGINAL,
    }
    responses["206"] = {
        "description": "The range of the original that was asked for.",
        "headers": _headers(*headers, "Content-Range"),
        "content": _ORIGINAL,
    }
    responses["304"] = {
        "description": "The asker has the original already; this is no reading.",
        "headers": _headers("ETag"),
    }
    responses["412"] = _problem(_OTHER)
    responses["416"] = _problem(
        "`range_refused`: nothing of the content lies in the range.", "Content-Range"
    )


def _schema_of(media_type: str, schema: Document) -> Document:
    """What Litestar knows, corrected where a route answers with bytes that it wrote itself."""
    if media_type == "application/json" or media_type.startswith("text/"):
        return schema
    return {"type": "object"} if media_type.endswith("+json") else _BINARY


def _ref(name: str) -> Document:
    return {"$ref": _REF.format(name=name)}


def _problem(description: str, *headers: str) -> Document:
    content = {MEDIA_TYPE: {"schema": _ref("Problem")}}
    return {"description": description, "headers": _headers(*headers), "content": content}


def _headers(*names: str) -> Document:
    return {
        name: {"description": _TOLD[name], "schema": {"type": "string"}} for name in sorted(names)
    }


def _parameters(*names: str) -> list[Document]:
    return [
        {"name": name, "in": "header", "required": False, **header}
        for name, header in _headers(*names).items()
    ]
