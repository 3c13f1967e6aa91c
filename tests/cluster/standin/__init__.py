"""A stand-in for the Kubernetes API: picky like the real one, with a cluster's controllers that a test can script."""
