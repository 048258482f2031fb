"""Transparency-log formats of C2SP, at commit 5ba5ee83 (2026-07-22).

One module for each specification: `note` (signed-note), `checkpoint` (tlog-checkpoint),
`cosignature` (tlog-cosignature 1.1), `tiles` (tlog-tiles), `proof` (tlog-proof) and `policy`
(tlog-policy). They turn bytes into values and back and check signatures. They fetch nothing,
store nothing and ask no clock: a signing time is always an argument, in POSIX seconds.
"""
