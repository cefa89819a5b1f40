"""Export as people read it."""

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from farebox.admin.catalogue_file import check
from farebox.admin.catalogue_text import as_toml

FILE = """\
# Printed by `farebox export` for `farebox apply`. Prices: credits per million tokens.

[billing]
cache_prices = "vendor"

[[channels]]
id = "main"
vendor = "openai_compatible"
base_url = "http://127.0.0.1:9/v1"
weight = 2
drop = ["seed", "user"]
rename = { user = "user_id" }
json_schema = false

[[models]]
id = "m"
aliases = ["em"]
context = 8000
channels = [{ channel = "main", model = "up" }]

[models.price]
input = "1"
output = "2"
tiers = { flex = "0.5" }
windows = [
    { days = "mon-fri", utc = "01:00-04:00", multiplier = "2" },
    { days = "sat,sun", utc = "01:00-04:00", multiplier = "3" },
]

[models.cost]
input = "1"
output = "2"

[[groups]]
id = "default"
rate = "1"
"""


def test_a_catalogue_looks_like_the_manuals_example() -> None:
    """A table for each channel, model and group; what is small stands on one line."""
    assert as_toml(check(tomllib.loads(FILE))) == FILE


@given(st.text(min_size=1), st.text())
def test_any_text_comes_back_as_it_was(name: str, value: str) -> None:
    """Names and values are quoted as TOML wants it, whatever is in them."""
    channel: dict[str, Any] = {"id": "c", "vendor": "openai", "rename": {name: value}}
    document = {"billing": {}, "channels": [channel], "models": [], "groups": []}
    assert tomllib.loads(as_toml(document)) == {"channels": [channel]}
