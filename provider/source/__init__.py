"""Git: a branch's commit, files at a commit, a commit's tree; and the credentials for it.

    source.py        Source: resolve, look, read, export; the caches below `state_dir/git`
    fetch.py         Fetcher: brings commits into the caches
    wire.py          the quick way to do that, by git's own protocol
    objects.py       what a commit holds, asked of one git process
    cache.py         one bare repository on disk that can be thrown away at any time
    remote.py        one repository on its host: its URL, its authorization, what its failures mean
    tree.py          what stands at a path of a commit
    credentials.py   Credentials: clone credentials minted by the platform
    git.py           git's command line, run safely
    failures.py      what goes wrong on our side

Only this package runs git; its failures leave as `Permanent` or `Temporary`.
"""

from provider.source.credentials import Credential, Credentials
from provider.source.git import valid_branch
from provider.source.remote import valid_repo
from provider.source.source import FULL_SHA, Source
from provider.source.tree import GITMODULES, Entry, Kind, submodules

__all__ = [
    "FULL_SHA",
    "GITMODULES",
    "Credential",
    "Credentials",
    "Entry",
    "Kind",
    "Source",
    "submodules",
    "valid_branch",
    "valid_repo",
]
