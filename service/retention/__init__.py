"""Retention: how long content stays, what holds it, and how it ends.

Does: locks for longer, holds, releases, and disposes, each stated in the log before or with the
deed. Refuses to decide: that is `service.law.retention`, from the log's own statements.
"""
