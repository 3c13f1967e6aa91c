"""Ordered phases over one record, and the runner that owns it. Knows nothing of the bus."""
