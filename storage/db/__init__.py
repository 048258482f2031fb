"""The database: its engine, its tables and their migrations.

It is the truth of the log's unpublished second and an index of everything before it. Only
`storage.records` writes evidence rows; `service` writes the work tables.
"""
