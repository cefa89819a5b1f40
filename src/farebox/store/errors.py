"""What can go wrong with the store itself. Errors of a call are farebox/errors.py's."""


class StoreError(Exception):
    """The store cannot be used; the message is a sentence for the operator."""


class BadStoreUrl(StoreError):
    """The store's URL is not one that this version can open."""


class StoreConflict(StoreError):
    """What was asked contradicts what the store holds: a name taken, another secret."""
