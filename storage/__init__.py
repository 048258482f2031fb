"""Durability: objects, tiles, staged uploads, the log and its records.

Knows neither HTTP nor workflows and decides nothing about law; what it answers "done" for has
reached the disk, or it says so with an error of `storage.errors`.
"""
