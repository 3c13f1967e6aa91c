"""A preview-environment provider: (repository, commit) in, verified HTTPS URL out, over NATS."""

__version__ = "0.1.0"
