"""Records in JetStream KV or in memory: compare-and-set, watch, the order of deploys.

`kv` is the small seam that both implementations fulfil, `encoding` knows records as bytes, `records` knows whose
they are, `reducers` and `resting` are the only ways in which a preview changes.
"""

from provider.store.build_logs import DiskShelf, KeptLog, Shelf, Spool, key_of
from provider.store.jetstream import open_store, payload_limit
from provider.store.membership import Lapsed, Living, Membership
from provider.store.object_logs import ObjectShelf, open_shelf
from provider.store.records import DeployExists, Lost, Store, memory_store

__all__ = [
    "DeployExists",
    "DiskShelf",
    "KeptLog",
    "Lapsed",
    "Living",
    "Lost",
    "Membership",
    "ObjectShelf",
    "Shelf",
    "Spool",
    "Store",
    "key_of",
    "memory_store",
    "open_shelf",
    "open_store",
    "payload_limit",
]
