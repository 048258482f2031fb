"""What a media file says of itself, read without trusting it (extra `media`).

Does: turns bytes into facts: container, Exif, XMP, film header, C2PA manifest, image
measures (`inspection.inspect`), and compares them with a claim (`claims.compare`). Refuses:
to open files, to ask the network, to judge. Hostile bytes make findings, never exceptions
other than `EvidenceError`. Decoders can still be made to eat time and memory, so a service
calls this only inside `service.captures.sandbox`.
"""
