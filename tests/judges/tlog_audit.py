"""Have aics-tlog authenticate every tile and every entry bundle of a log against its root.

Run by the judges' Python, where aics-tlog is installed; it knows nothing of this project.

    python tlog_audit.py FOLDER_OR_URL SIZE ROOT_HEX
"""

import json
import sys

from aics_tlog.remote import (  # pyright: ignore[reportMissingImports]
    HttpTileReader,
    tile_source_url,
)
from aics_tlog.verified import audit_tiles  # pyright: ignore[reportMissingImports]

place, size, root = sys.argv[1:]
report = audit_tiles(HttpTileReader([tile_source_url(place)]), int(size), bytes.fromhex(root))
print(json.dumps({"size": report.size, "tiles": report.tiles, "bundles": report.bundles}))  # noqa: T201
