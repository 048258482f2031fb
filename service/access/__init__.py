"""Who is calling: bearer tokens today, OpenID Connect and device certificates later.

Does: turns a request into a `Holder` of the rules. Refuses to decide what a holder may do.
"""
