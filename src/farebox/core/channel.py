"""One configured upstream as a value. What its vendor makes of it is vendors/'s business."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """What an operator may say of an upstream that its vendor does not know. None: the vendor's
    default.
    """

    drop: tuple[str, ...] = ()  # request fields that this upstream refuses
    rename: tuple[tuple[str, str], ...] = ()  # request field -> its name there
    max_tokens_field: str | None = None
    json_schema: bool | None = None
    developer_role: bool | None = None
    cache_control: bool | None = None  # takes Anthropic's marks of what to cache, in chat
    reasoning_effort: bool | None = None  # takes one from callers who only wish for it


@dataclass(frozen=True, slots=True)
class Channel:
    """A vendor, a base URL and a credential. `api_key` is the secret itself: never shown, never
    stored.
    """

    id: str
    vendor: str
    base_url: str  # without a slash at its end
    api_key: str = field(default="", repr=False)
    weight: int = 1  # kept for the operator; routing does not look at it yet
    priority: int = 0  # lower is tried first
    speaks: tuple[str, ...] = ("chat",)
    dedicated_account: str = ""
    first_byte_timeout_s: float | None = None
    options: ChannelOptions = ChannelOptions()
    closed: str | None = None  # why it cannot be used, if it cannot
