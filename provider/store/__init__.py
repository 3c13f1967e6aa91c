"""Records in JetStream KV or in memory: compare-and-set, watch, the order of deploys.

`kv` is the small seam that both implementations fulfil, `records` knows what a record is, `reducers`
are the only ways in which a preview changes.
"""

from provider.store.jetstream import open_store, payload_limit
from provider.store.records import DeployExists, Lease, Lost, Store, memory_store

__all__ = ["DeployExists", "Lease", "Lost", "Store", "memory_store", "open_store", "payload_limit"]
