"""Inspection: the server's opinion of what it stored, and previews that are safe to look at."""

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from litestar.testing import TestClient

from service.app import create_app
from tests.service.deployment_maker import Made, make_deployment
from tests.service.test_captures import custody, get, seal

Client = TestClient[Any]


def picture() -> bytes:
    """A small JPEG."""
    shades = np.arange(64 * 48 * 3, dtype=np.uint8).reshape(48, 64, 3)
    done, encoded = cv2.imencode(".jpg", shades)
    assert done
    return encoded.tobytes()


def inspections(client: Client, made: Made, capture: str) -> list[dict[str, Any]]:
    """Wait for the opinions about a capture."""
    for _ in range(600):
        view = get(client, made, f"/v1/captures/{capture}").json()
        if view["inspections"]:
            return view["inspections"]
        time.sleep(0.05)
    raise AssertionError("not inspected in thirty seconds")


def test_the_server_says_what_it_read_and_previews_it(tmp_path: Path) -> None:
    """A photo is read in the sandbox; its preview is another file, and looking at it is logged."""
    made = make_deployment(tmp_path / "deployment", inspect_workers=1)
    with TestClient(create_app(made.settings)) as client:
        capture = seal(client, made, picture())
        liar = seal(client, made, b"<html><script>alert(1)</script>", media_type="image/jpeg")
        [opinion] = inspections(client, made, capture)
        [doubt] = inspections(client, made, liar)
        preview = get(client, made, f"/v1/captures/{capture}/content?as=preview")
        none = get(client, made, f"/v1/captures/{liar}/content?as=preview")
        events = custody(client, made, capture)
    assert (opinion["outcome"], bool(opinion["tools"])) == ("ok", True)
    assert "media_type_differs" in {one["code"] for one in doubt["discrepancies"]}
    assert (preview.status_code, preview.headers["content-type"]) == (200, "image/jpeg")
    assert preview.content[:2] == b"\xff\xd8"
    assert (none.status_code, none.json()["code"]) == (409, "preview_unavailable")
    assert events == ["previewed"]
