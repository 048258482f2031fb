"""Making a deployment: its keys, its first log entries, its trust file, and the demo of it all.

Does: what is done once, by hand, before a server starts. Refuses to be called by the server: a
running service never makes what is missing.
"""
