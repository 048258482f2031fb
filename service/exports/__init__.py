"""Exports: packages that leave the house, each one a custody event.

Does: gathers and writes them. Refuses to judge them: that is `evidence.verify`.
"""
