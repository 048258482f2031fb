"""`detection`: a model saw something.

Signed by the patrol box, or by the gateway for a box that cannot sign (`signed_by` says
which). A detection is a lead: no penalty rests on one that no human confirmed.
"""

from evidence.kinds.members import CODE, EXAMPLE_SHA256, NAME, SHA256, STATEMENT_ID, Kind, Role
from evidence.schema import Choice, Integer, Record

KIND = Kind(
    name="detection",
    says="A model saw this: model, weights hash, threshold, class, score, box, frames.",
    signers=frozenset({Role.PATROL, Role.SERVER}),
    body=Record(
        {
            "capture": STATEMENT_ID,
            "signed_by": Choice(("box", "gateway")),
            "model": NAME,
            "weights_sha256": SHA256,
            "threshold_ppm": Integer(0, 10**6),
            "class": CODE,
            "score_ppm": Integer(0, 10**6),
            "box?": Record(
                {
                    "left_px": Integer(0, 10**6),
                    "top_px": Integer(0, 10**6),
                    "width_px": Integer(1, 10**6),
                    "height_px": Integer(1, 10**6),
                }
            ),
            "first_frame?": Integer(0),
            "last_frame?": Integer(0),
        }
    ),
    example={
        "capture": EXAMPLE_SHA256,
        "class": "goods_on_pavement",
        "model": "street-v3",
        "score_ppm": 874000,
        "signed_by": "box",
        "threshold_ppm": 600000,
        "weights_sha256": EXAMPLE_SHA256,
    },
)
