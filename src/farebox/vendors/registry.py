"""Finding vendors: modules of this folder with a `VENDOR`, and those of other distributions."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache

from farebox import vendors
from farebox.vendors.base import Vendor

ENTRY_POINTS = "farebox.vendors"  # each names a Vendor, such as "acme_farebox:VENDOR"


class VendorUnknown(LookupError):
    """No vendor has that name."""


class _Found(dict[str, Vendor]):
    """Those that were asked for: every call asks for one."""

    def __missing__(self, name: str) -> Vendor:
        # Whether other distributions have some takes a while to find out, and few gateways ask for
        # one.
        found = _ours().get(name) or all().get(name)
        if found is None:
            known = ", ".join(sorted(all()))
            raise VendorUnknown(f"There is no vendor {name!r}. Known vendors: {known}.")
        self[name] = found
        return found


find = _Found().__getitem__
"""The vendor of a name. Raises VendorUnknown, which lists the known ones."""


@cache
def _ours() -> Mapping[str, Vendor]:
    """Those of this folder by name, looked up once per process."""
    return _in_folder()


def _in_folder() -> dict[str, Vendor]:
    found: dict[str, Vendor] = {}
    for name in sorted(module.name for module in pkgutil.iter_modules(vendors.__path__)):
        module = importlib.import_module(f"{vendors.__name__}.{name}")
        vendor = getattr(module, "VENDOR", None)
        if isinstance(vendor, Vendor):
            found[vendor.name] = vendor
    return found


@cache
def all() -> Mapping[str, Vendor]:  # noqa: A001 (it reads as registry.all())
    """Every vendor by name, looked up once per process."""
    return discover()


def discover() -> dict[str, Vendor]:
    """Look for vendors now; our own win over a distribution's of the same name."""
    from importlib.metadata import entry_points

    found = _in_folder()
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
        vendor = entry.load()
        if isinstance(vendor, Vendor):
            found.setdefault(vendor.name, vendor)
    return found
