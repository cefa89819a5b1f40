"""The embedded llama.cpp server. Starting it is local/'s; the channel has its address and key."""

from farebox.vendors.base import MORE_THAN_HELD, Vendor


class Local(Vendor):
    """Source: llama.cpp's server documentation, and what the server that we ship does.

    Chat templates know no role `developer`. Of several choices it reports the usage of one, so
    that more than one could not be charged for what they are.
    """

    name = "local"
    title = "Local model (llama.cpp)"
    needs_key = False
    max_tokens_field = "max_tokens"
    developer_role = False
    max_choices = 1
    drop = MORE_THAN_HELD
    shows_all_output = True
    remembers = True


VENDOR = Local()
