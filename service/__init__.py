"""The application: takes statements and content, states what it did, and proves it.

Does: HTTP, background work and the command line, cut by feature. Refuses to be trusted: whatever
it claims can be checked with `evidence` alone.
"""
