"""Every finding and discrepancy that can stand in evidence is explained on a page."""

from evidence.media.claims import DISCREPANCIES
from evidence.media.findings import FACETS, FINDINGS, State
from tests.tools import ROOT


def test_every_code_is_explained_with_its_own_sentence() -> None:
    """The page's tables are the registries, word for word."""
    page = (ROOT / "docs" / "explanation" / "media.md").read_text("utf-8")
    rows = {f"| `{code}` | {text} |" for code, text in {**FINDINGS, **DISCREPANCIES}.items()}
    assert {row for row in rows if row not in page} == set()


def test_every_facet_and_state_is_named() -> None:
    """A reader of an `inspected` statement finds each word that it uses."""
    page = (ROOT / "docs" / "explanation" / "media.md").read_text("utf-8")
    assert [word for word in (*FACETS, *State) if f"`{word}`" not in page] == []
