"""Background work: what a transaction left to be done, leased, retried, never lost.

Does: keeps pieces of work in the database and hands them to threads. Refuses to know what the
work is; the slices say that.
"""
