"""docs/scale.md is what its script computes, and the script computes what it says."""

import importlib.util
import subprocess
import sys
from dataclasses import fields, replace
from types import ModuleType

import pytest

from tests.tools import ROOT


def load() -> ModuleType:
    """The script that writes the page."""
    spec = importlib.util.spec_from_file_location("scale", ROOT / "docs" / "scale.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["scale"] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


SCALE = load()


def test_the_page_is_what_the_script_would_write() -> None:
    """No figure of the page is typed in."""
    assert (ROOT / "docs" / "scale.md").read_text("utf-8") == SCALE.render(SCALE.Province())


def test_the_parameters_are_those_of_the_province() -> None:
    """100,000 devices, 2 million captures and 8 TB a day, peaks of ten times the mean."""
    province = SCALE.Province()
    asked = (province.devices, province.captures, province.terabytes, province.peak)
    assert asked == (100_000, 2_000_000, 8, 10)


def test_every_unit_cost_names_who_measured_it() -> None:
    """A unit cost without a source is no measurement; every figure is above nothing."""
    assert set(SCALE.SOURCES) == {one.name for one in fields(SCALE.Units)}
    assert all(getattr(SCALE.MEASURED, one.name) > 0 for one in fields(SCALE.Units))


def test_the_products_are_right() -> None:
    """By hand: 86,400 captures of 1 MB a day are one a second, ten at the peak."""
    units = replace(
        SCALE.MEASURED, announce_ms=50.0, row_bytes=1000.0, rows=2.0, leader_leaves=15.0
    )
    province = SCALE.Province(captures=86_400, terabytes=0.0864, busy=0.5, copies=2, price=10)
    told = {what: value for what, _, value in SCALE.arithmetic(province, units)}
    assert told["announcements, mean and peak"] == "1/s, 10/s"
    assert told["content, mean and peak"] == "1 MB/s, 10 MB/s"
    assert told["processors for announcements"] == "1.0"  # 10/s × 50 ms, half busy
    assert told["log shards"].startswith("4,")  # 30 leaves a second over 7.5
    assert told["storage cost"] == "631 a month at a price of 10"  # 31.536 TB × 2 × 10


def test_what_breaks_first_stands_first() -> None:
    """A slower network moves up, and more of everything is needed for more captures."""
    province, units = SCALE.Province(), SCALE.MEASURED
    slow = SCALE.needs(replace(province, network_gbit=0.01), units)
    assert slow[0].what.startswith("network")
    twice = {
        one.what: one.asked for one in SCALE.needs(replace(province, captures=4_000_000), units)
    }
    once = {one.what: one.asked for one in SCALE.needs(province, units)}
    assert twice["a log's leader, leaves"] == pytest.approx(2 * once["a log's leader, leaves"])


def test_it_prints_other_parameters() -> None:
    """The command of the page works, and leaves the page alone."""
    before = (ROOT / "docs" / "scale.md").read_bytes()
    command = [sys.executable, ROOT / "docs" / "scale.py", "--captures", "5000000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "5,000,000 captures a day" in done.stdout
    assert (ROOT / "docs" / "scale.md").read_bytes() == before
