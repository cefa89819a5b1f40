"""Z.ai: Zhipu's API outside China, with its own address and keys."""

from farebox.vendors.zhipu import Zhipu


class Zai(Zhipu):
    """Source: Z.ai's API reference, November 2026."""

    name = "zai"
    title = "Z.ai"
    base_url = "https://api.z.ai/api/paas/v4"
    env_name = "ZAI_API_KEY"
    remembers = True


VENDOR = Zai()
