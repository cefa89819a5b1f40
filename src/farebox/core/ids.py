"""Request ids, API keys and other random names; and the digest under which a key is kept."""

import hmac
import os
import zlib
from collections.abc import Callable
from functools import lru_cache
from struct import Struct

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
_SECRET_CHARS = 43  # 62^43 > 2^256
_CHECK_CHARS = 6  # 62^6 > 2^32
# Of a request id: the milliseconds stand in 48 bits above 80 others, and all of them are written in
# 22 digits. The first nine of these tell the millisecond, and the rest are by chance.
_LAST_MILLIS, _OTHER_BITS = (1 << 48) - 1, 80
_ID_CHARS, _CHANCE_CHARS = 22, 13  # 62^22 > 2^128
_PER_FIRST_DIGITS = 62**_CHANCE_CHARS
_CHANCES = Struct(f"{_CHANCE_CHARS}s" * 64)  # of as many ids as are drawn at once
# What a byte of chance is as a digit. Eight digits come from five of the 256 values each, the rest
# from four: 13 of them are worth 77.3 bits instead of 77.4, and no guess is better than 1 in 2^73.
_AS_DIGIT = bytes(_ALPHABET.encode()[byte % 62] for byte in range(256))
_CHARS = frozenset(_ALPHABET)
KEY_PREFIX = "sk-fb-"
KEY_CHARS = len(KEY_PREFIX) + _SECRET_CHARS + _CHECK_CHARS

RandomBits = Callable[[int], int]
RandomBytes = Callable[[int], bytes]


def _chance(bits: int) -> int:
    """As `secrets.randbits` for whole bytes, in half of its time."""
    return int.from_bytes(os.urandom(bits // 8), "big")


def _base62(value: int, width: int) -> str:
    # Two digits at a time come from a table, and four are split off at once: long numbers are
    # divided quickly by what has fewer than 30 bits.
    text = ""
    for _ in range((width + 3) // 4):
        value, four = divmod(value, 14_776_336)
        text = f"{_PAIRS[four // 3844]}{_PAIRS[four % 3844]}{text}"
    return text[-width:]


class RequestIds:
    """Makes request ids: `req_` and 22 digits in base 62, of which nine are the milliseconds since
    the Unix epoch, and 13 by chance.

    Ids of one time sort together, so that the store writes new calls at the end of its index and
    not all over it: with many calls kept, that is a third of the work (as UUIDv7, RFC 9562).
    """

    def __init__(self, random_bytes: RandomBytes = os.urandom) -> None:
        self._random_bytes = random_bytes
        # Drawn for ids to come: to ask the system takes most of a microsecond.
        self._chances: list[str] = []
        # The latest millisecond and its digits: a busy worker makes ten ids in one. Kept together,
        # for any thread may come by between the two.
        self._first = -1, ""

    def new(self, now_ns: int) -> str:
        """An id that is made now. For any thread."""
        now_ms = now_ns // 1_000_000
        of_ms, first = self._first
        if of_ms != now_ms:
            first = _first_digits(now_ms)
            self._first = now_ms, first
        try:
            return first + self._chances.pop()
        except IndexError:
            return first + self._draw()

    def _draw(self) -> str:
        drawn = self._random_bytes(_CHANCES.size).translate(_AS_DIGIT)
        chance, *others = map(bytes.decode, _CHANCES.unpack(drawn))
        self._chances += others
        return chance

    def forget(self) -> None:
        """Forget what was drawn: another process has it, too."""
        self._chances.clear()


_ids = RequestIds()
os.register_at_fork(after_in_child=_ids.forget)
new_request_id = _ids.new


def _first_digits(millis: int) -> str:
    # There are six such numbers to a millisecond, so the next one is wholly within it, whatever
    # follows: in the place of the 80 bits, which took seven times as long to write as digits.
    first = ((millis & _LAST_MILLIS) << _OTHER_BITS) // _PER_FIRST_DIGITS + 1
    return _seven_digits(first // 3844) + _PAIRS[first % 3844]


@lru_cache(maxsize=4)  # they are the same for 0.6 seconds
def _seven_digits(value: int) -> str:
    return "req_" + _base62(value, 7)


def request_time_us(request_id: str) -> int | None:
    """When a request id was made, to the millisecond; None for what has not the form of one."""
    body = request_id.removeprefix("req_")
    if len(body) != _ID_CHARS or not set(body) <= _CHARS:
        return None
    value = 0
    for char in body:
        value = value * 62 + _ALPHABET.index(char)
    return (value >> _OTHER_BITS) * 1000


def new_id(prefix: str, random_bits: RandomBits = _chance) -> str:
    """A short random id, such as `key_4fQ…`: the prefix, an underscore, 72 random bits."""
    return f"{prefix}_{_base62(random_bits(72), 13)}"


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK_CHARS)


def new_key(random_bits: RandomBits = _chance) -> str:
    """An API key: `sk-fb-`, 256 random bits, and a checksum that tells a typing error at once."""
    body = KEY_PREFIX + _base62(random_bits(256), _SECRET_CHARS)
    return body + _checksum(body)


def is_key(text: str) -> bool:
    """Whether the text has the form of a key and its checksum is right. Says nothing of its
    validity.
    """
    if len(text) != KEY_CHARS or not text.startswith(KEY_PREFIX) or not text.isascii():
        return False
    return _checksum(text[:-_CHECK_CHARS]) == text[-_CHECK_CHARS:]


def key_digest(pepper: bytes, key: str) -> bytes:
    """HMAC-SHA256 of the key under a pepper that is not in the store: 32 bytes."""
    return hmac.digest(pepper, key.encode(), "sha256")


def key_hint(key: str) -> str:
    """What may be shown of a key: its prefix and its last four characters."""
    return f"{KEY_PREFIX}…{key[-4:]}"
