"""Truth over index: the database recomputed from log and store, compared, and made anew."""
