"""Background work: what a transaction left to be done, handed to workflows, retried, never lost.

Does: keeps pieces of work in the database, hands them in batches to the workflow engine, which
runs in worker processes, and notices when one of those is dead. Refuses to know what the work is;
the slices say that.
"""
