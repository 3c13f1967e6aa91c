"""The command line: parse, call, print, exit code (see `provider.cli.main` for the exit codes)."""

from provider.cli.main import main

__all__ = ["main"]
