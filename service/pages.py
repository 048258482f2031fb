"""The few pages that explain the API to people: its description and its problems.

Does: renders on the server, with a policy that lets a browser load nothing. Refuses scripts.
"""

from typing import Annotated, Any

from litestar import MediaType, Response, get
from litestar.params import PathParameter

from service.edge import AnyRequest
from service.openapi import describe, render_page
from service.problems import REGISTRY, Problem

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"


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
