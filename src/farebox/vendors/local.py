"""The embedded llama.cpp server. Starting it is local/'s; the channel has its address and key."""

from farebox.vendors.base import Vendor


class Local(Vendor):
    """Source: llama.cpp's server documentation; chat templates know no role `developer`."""

    name = "local"
    title = "Local model (llama.cpp)"
    needs_key = False
    max_tokens_field = "max_tokens"
    developer_role = False


VENDOR = Local()
