"""Records in JetStream KV or in memory: compare-and-set, watch, the order of deploys.

`kv` is the small seam that both implementations fulfil, `encoding` knows records as bytes, `records` knows whose
they are, `reducers` and `resting` are the only ways in which a preview changes.
"""

from provider.store.jetstream import open_store, payload_limit
from provider.store.membership import Lapsed, Living, Membership
from provider.store.records import DeployExists, Lost, Store, memory_store

__all__ = [
    "DeployExists",
    "Lapsed",
    "Living",
    "Lost",
    "Membership",
    "Store",
    "memory_store",
    "open_store",
    "payload_limit",
]
