"""The store: schema, transactions and SQL for accounts, keys, catalogues, calls and reports.

What a call costs is billing's business; what an operator may do is admin's.
"""

from farebox.store.errors import BadStoreUrl, StoreConflict, StoreError
from farebox.store.store import Store, open_store

__all__ = ["BadStoreUrl", "Store", "StoreConflict", "StoreError", "open_store"]
