"""The frozen Settings of one gateway. Where they come from is farebox/settings.py's business."""

from dataclasses import dataclass, field
from pathlib import Path

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Settings:
    """Every limit has its reason beside it. Every field is `FAREBOX_…` in the environment and a
    key of `[server]` in TOML; `responses_…` is a key of `[responses]` there, without its prefix.
    """

    data_dir: Path
    database: str
    host: str = "127.0.0.1"
    port: int = 8790
    workers: int = 1  # `auto` is resolved to the number of usable cores before it gets here
    secret_file: Path | None = None  # default: DATA_DIR/secret
    local: bool = True  # run the embedded model
    public_url: str = ""  # what users are told; default http://host:port
    trusted_proxies: tuple[str, ...] = ()  # not used yet: nobody asks where a client calls from
    log_level: str = "info"
    out_of_credit_status: int = 429  # OpenAI's own; 402 for operators who prefer it
    max_body_bytes: int = 64 * MIB  # some 20 MB images as base64, plus text
    max_answer_bytes: int = 64 * MIB  # one JSON answer, or one event of a stream
    max_head_bytes: int = 64 * KIB  # first line and headers, of a request or an answer
    body_timeout_s: float = 60.0  # to read a request's head, and again its body
    connect_timeout_s: float = 5.0  # for DNS, TCP and TLS, or a turn where the pool is full
    first_byte_timeout_s: float = 600.0  # reasoning models think before they speak
    idle_timeout_s: float = 120.0  # silence within an answer
    keepalive_s: float = 15.0  # silence after which a waiting client gets a sign of life
    drain_after_hangup_s: float = (
        30.0  # reading on for the usage when the client has gone; 0 = cancel
    )
    usage_wait_s: float = (
        2.0  # from the usage to the upstream's end, before the tail is sent anyway
    )
    drain_timeout_s: float = 30.0  # streams in flight on SIGTERM
    # Calls in flight in a worker that was replaced: nobody waits for it, and some reason for long.
    reload_drain_timeout_s: float = 900.0
    lease_idle_s: float = 2.0  # credit set apart for an account that makes no calls is given back
    spool: bool = True  # charges are kept in the data folder while the database is away
    usage_keep_days: int = 90  # rows of single calls; sums by hour are kept for ever
    pool_idle_s: float = 60.0  # an unused upstream connection is closed
    pool_per_origin: int = 1000  # upstream connections open to one origin at a time
    responses_store: bool = True  # whether responses may be kept at all; clients can only say less
    responses_keep_days: int = 30  # as long as OpenAI keeps them, so that no client is surprised
    # Of one response, input and output together: a long conversation with a few images. What is
    # larger is answered but not kept, so that a few calls cannot fill the disk.
    responses_max_kept_bytes: int = 16 * MIB
    responses_websocket: bool = True  # off: GET /v1/responses with Upgrade is 426, clients use POST
    # OpenAI closes after an hour too, so clients know how to connect anew. A socket keeps its
    # history in memory for as long as it lives.
    responses_websocket_limit_s: float = 3600.0
    config: Path | None = field(default=None)  # the file that these came from, if any

    @property
    def base_url(self) -> str:
        """What clients use as base URL, ending in /v1."""
        return f"{self.origin}/v1"

    @property
    def origin(self) -> str:
        """Scheme, host and port under which users reach the gateway."""
        if self.public_url:
            return self.public_url.rstrip("/")
        every = ("0.0.0.0", "::")  # noqa: S104 (compared with, not bound to)
        host = "127.0.0.1" if self.host in every else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"
