"""`python -m provider` is `preview`."""

from provider.cli import main

main()
