"""Captures: announced, received, stored, inspected, shown.

Does: takes signed statements and the content that they announce. Refuses to change either.
"""
