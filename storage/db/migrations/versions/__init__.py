"""One file for each revision, named by its number; Alembic loads them by path."""
