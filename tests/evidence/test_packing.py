"""A package is written so that its own reader takes it, or not at all."""

import io
import re
from dataclasses import replace

import pytest

from evidence.package import MAX_SMALL_BYTES, Package
from evidence.packing import write_package
from tests.evidence.package_maker import world_with_photo, written


def test_bundles_and_attachments_are_read_back() -> None:
    """What is added for other tools lies beside the evidence, byte for byte."""
    world, capture = world_with_photo()
    contents = replace(
        world.contents([capture]),
        bundles={capture.id: b'{"bundle":1}'},
        trusted_root=b'{"root":1}',
        attachments={"inspection.json": b'{"tool":1}'},
    )
    package = Package(written(contents))
    found = {
        name: package.read(name)
        for name in package.names()
        if name.startswith(("data/bundles/", "data/attachments/"))
    }
    assert found == {
        f"data/bundles/{capture.id}.json": b'{"bundle":1}',
        "data/bundles/trusted_root.json": b'{"root":1}',
        "data/attachments/inspection.json": b'{"tool":1}',
    }


def test_the_package_sends_nobody_to_a_package_index_by_name() -> None:
    """Whoever registers a name there later would run code on the checking person's machine."""
    world, capture = world_with_photo()
    text = Package(written(world.contents([capture]))).read("data/VERIFY.txt").decode()
    installs = re.findall(r"pip install (.*?)(?:  |\n)", text)
    assert installs == [
        "--require-hashes -r requirements-verifier.lock",
        "--no-index --no-deps ./THE-WHEEL.whl",
    ]


def test_a_name_is_given_once() -> None:
    """A statement packed twice would be two members of one name, which no reader takes."""
    world, capture = world_with_photo()
    contents = world.contents([capture])
    twice = replace(contents, statements=[*contents.statements, contents.statements[0]])
    with pytest.raises(ValueError, match="one name"):
        write_package(twice, io.BytesIO())


def test_a_small_member_stays_within_the_reader_s_limit() -> None:
    """The largest attachment is read back, however well it deflates; a larger is not written."""
    world, capture = world_with_photo()
    contents = world.contents([capture])
    largest = bytes(MAX_SMALL_BYTES)
    package = Package(written(replace(contents, attachments={"a.bin": largest})))
    assert package.read("data/attachments/a.bin") == largest
    with pytest.raises(ValueError, match="too large"):
        write_package(replace(contents, attachments={"a.bin": largest + b"x"}), io.BytesIO())
