"""Bounded walkers: where a container keeps its metadata, without decoding anything.

Each module walks one family of containers and returns a `Found`. A walker reads headers,
follows lengths and offsets inside limits of its own, and says honestly whether it got far
enough to rule metadata out. Refuses: to decode pixels, to interpret metadata, to follow
anything out of the file.
"""
