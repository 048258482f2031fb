"""What is wrong with a request, and where: query parameters, and members of a JSON body.

Does: refuses query parameters that a route does not take, or that are given twice, for every route
in one place; turns what the framework says of a body into RFC 6901 pointers. Refuses to point at
what the client's document cannot have: a missing member is told of the object that lacks it.
"""

import re
from collections import Counter
from typing import Any, cast
from urllib.parse import parse_qsl

from litestar import Request
from litestar.exceptions import ValidationException
from litestar.params import QueryParameter

from service.problems import REGISTRY, Occurrence, Problem

_BODY = "data"
"""The argument in which Litestar hands a route its body, and the root of its own paths."""

_NO_BODY = str(KeyError(_BODY))
"""Litestar leaves that argument out where the body is empty."""

_QUERY_NAMES = {"minimum": "min", "form": "as"}
"""Query parameters whose names Python keeps for itself."""

_NO_MEMBER = "The schema names no such member."
_LONGEST_NAME = 64
_MOST_FAULTS = 16
_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)(`?)", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`", re.DOTALL)


async def refuse_unknown_parameters(request: Request[Any, Any, Any]) -> None:
    """Let a request pass whose query the route takes as it is; runs before every route.

    Raises:
        Problem: `invalid`, naming each parameter that is unknown here or given more than once.
    """
    query: bytes = request.scope["query_string"]
    if not query or request.method == "OPTIONS":
        return
    given = Counter(name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    taken = _taken_by(request)
    faults = [
        {"parameter": name[:_LONGEST_NAME], "detail": detail}
        for name, times in given.items()
        if (detail := _fault_of(times, known=name in taken))
    ]
    if faults:
        raise Problem(
            "invalid",
            "The query holds what this address does not take.",
            errors=tuple(faults[:_MOST_FAULTS]),
        )


def _taken_by(request: Request[Any, Any, Any]) -> set[str]:
    """The query parameters of the route that was found."""
    arguments = request.scope["route_handler"].parsed_fn_signature.parameters
    return {
        argument.kwarg_definition.name or name
        for name, argument in arguments.items()
        if isinstance(argument.kwarg_definition, QueryParameter)
    }


def _fault_of(times: int, *, known: bool) -> str:
    if not known:
        return "This address takes no such parameter."
    return "The parameter is given more than once." if times > 1 else ""


def of_validation(error: ValidationException) -> Occurrence:
    """The problem of a request that the framework found to break its schema.

    Litestar names the source and the key of each fault; its sentences are msgspec's own.
    """
    extra = error.extra if isinstance(error.extra, list) else []
    faults = cast("list[dict[str, object]]", extra)
    if any(fault.get("message") == _NO_BODY for fault in faults):
        return Occurrence(
            kind=REGISTRY["bad_request"], detail="The body is empty; it must be JSON."
        )
    return Occurrence(
        kind=REGISTRY["invalid"],
        detail="The request breaks its schema.",
        errors=tuple(_place_of(fault) for fault in faults),
    )


def _place_of(fault: dict[str, object]) -> dict[str, str]:
    key, message = str(fault.get("key", "")), str(fault.get("message", ""))
    detail = "The value does not fit its schema."
    if fault.get("source") != "body":
        name = key[:_LONGEST_NAME]
        return {"parameter": _QUERY_NAMES.get(name, name), "detail": detail}
    pointer = "" if key == _BODY else pointer_of(f"$.{key}")
    if unknown := _UNKNOWN.fullmatch(message):
        if not unknown[2]:  # Litestar cut a name that looks like msgspec's way to name a place
            return {"pointer": "", "detail": _NO_MEMBER}
        step = unknown[1][:_LONGEST_NAME].replace("~", "~0").replace("/", "~1")
        return {"pointer": f"{pointer}/{step}", "detail": _NO_MEMBER}
    if missing := _MISSING.fullmatch(message):
        return {"pointer": pointer, "detail": f"The member {missing[1]} is missing."}
    return {"pointer": pointer, "detail": detail}


def pointer_of(path: str) -> str:
    """Turn msgspec's `$.statements[3].key_id` into the RFC 6901 `/statements/3/key_id`."""
    steps = re.findall(r"\.([A-Za-z0-9_]+)|\[(\d+|\.\.\.)\]", path)
    return "".join(f"/{name or index}" for name, index in steps)
