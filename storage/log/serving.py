"""Published files by their C2SP paths, for anybody who may read the log.

Does: gives full tiles and bundles as they are, and partial ones of any width as the beginning of
what is there. Refuses: paths that no tile has. Texts are no part of this: they are encrypted,
and read from the database by those who may.

Source: C2SP tlog-tiles, commit 5ba5ee83.
"""

from evidence.merkle import HASH_BYTES
from evidence.tlog.tiles import (
    TILE_WIDTH,
    TileName,
    decode_bundle,
    encode_bundle,
    parse_tile_path,
)
from storage.errors import NotFound
from storage.tiles import TileStore


def published_tile(tiles: TileStore, path: str) -> bytes:
    """A published tile or entry bundle by its C2SP path below the log's prefix.

    Any width up to what is published is answered, as the beginning of the wider form.

    Args:
        tiles: where the log is published.
        path: such as `tile/0/x001/234.p/12` or `tile/entries/000`.

    Raises:
        TileInvalid: no such path can exist.
        NotFound: it is not published, or not so far.
        Unavailable: the tile store does not answer.
    """
    name = parse_tile_path(path)
    full = name.full().path()
    if name.width == TILE_WIDTH:
        return tiles.get(full)
    partial = tiles.get_partial(full)
    width, data = partial or (TILE_WIDTH, tiles.get(full))
    if width < name.width:
        raise NotFound("the tile is not published so far")
    return _beginning(name, data)


def _beginning(name: TileName, data: bytes) -> bytes:
    if name.level is None:
        return encode_bundle(decode_bundle(data)[: name.width])
    return data[: name.width * HASH_BYTES]
