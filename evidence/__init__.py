"""Evidence as mathematics and formats: pure, offline, without a clock.

Opens nothing, remembers nothing, asks no clock and knows no framework, so that an
outside expert can audit it alone. Input and output belong to `evidence.__main__`,
to `storage` and to `service`.
"""
