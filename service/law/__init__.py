"""What the rules allow: pure, the lowest part of the service.

Does: decides from facts that were handed in. Refuses to read a database, a clock, a setting or
the network, and to change anything.
"""
