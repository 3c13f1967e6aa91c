"""Background work over records: what keeps previews true to what they should be, and removes them in the end.

Each part is a small class with `async def once(self) -> None`, which the service calls again and again. Several
providers may do the same at once, so whatever is done is compare-and-set; `Mine` only spares work.

    known.py      what the keeper knows of each preview, from the watch: nobody reads all records for it
    expiry.py     time to live
    branches.py   branches that are gone
    reconcile.py  what runs is what the records say
    sweep.py      what no record needs
    removals.py   removals that nobody goes on with
    notices.py    what is told of all this
"""
