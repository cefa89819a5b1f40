"""Versions of the catalogue: appended, never changed, and none without a difference."""

from farebox.store import Store

DOCUMENT = {"channels": [], "models": [{"id": "夏", "price": {"input": "1.32"}}]}


def test_there_is_no_catalogue_at_first(store: Store) -> None:
    """A new store has none, neither newest nor by number."""
    assert (store.load_catalogue(), store.load_catalogue(1)) == (None, None)


def test_a_document_comes_back_as_it_was(store: Store) -> None:
    """What is saved is loaded, with its source and version, in the order of its writing."""
    saved = store.save_catalogue(DOCUMENT, "file", "/etc/farebox.toml")
    assert (saved.version, saved.source, saved.origin) == (1, "file", "/etc/farebox.toml")
    assert saved.document == DOCUMENT
    assert list(saved.document) == ["channels", "models"]
    assert store.load_catalogue() == saved


def test_saving_the_same_makes_no_version(store: Store) -> None:
    """A version differs from the one before in document, source or origin."""
    steps = [
        (DOCUMENT, "file", "a"),
        (DOCUMENT, "file", "a"),
        (DOCUMENT, "file", "b"),
        (DOCUMENT, "console", "b"),
        ({}, "console", "b"),
        (DOCUMENT, "file", "a"),
    ]
    assert [store.save_catalogue(*step).version for step in steps] == [1, 1, 2, 3, 4, 5]
    assert store.revisions().catalogue == 5


def test_old_versions_are_kept(store: Store) -> None:
    """A receipt of long ago finds the prices of its time."""
    store.save_catalogue(DOCUMENT, "file", "a")
    store.save_catalogue({}, "file", "a")
    first = store.load_catalogue(1)
    assert first is not None
    assert first.document == DOCUMENT
