"""The shapes in which vendors put errors and usage. Which persona has which is personas.py's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """Why a request is refused."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None


def openai_error(problem: Problem) -> bytes:
    """OpenAI's shape, which DeepSeek has too."""
    kind = "invalid_request_error" if problem.status < 500 else "server_error"
    error = {
        "message": problem.message,
        "type": "insufficient_quota" if problem.code == "insufficient_quota" else kind,
        "param": problem.param,
        "code": problem.code,
    }
    return json.dumps({"error": error}).encode()


def deepseek_error(problem: Problem) -> bytes:
    """DeepSeek's code is the same for nearly everything."""
    error = {
        "message": problem.message,
        "type": "authentication_error" if problem.status == 401 else "invalid_request_error",
        "param": None,
        "code": "invalid_request_error",
    }
    return json.dumps({"error": error}).encode()


def glm_error(problem: Problem) -> bytes:
    """Numeric codes as strings."""
    code = problem.code or str(problem.status)
    return json.dumps({"error": {"code": code, "message": problem.message}}).encode()


def mimo_error(problem: Problem) -> bytes:
    """A body prefixed `data:`, whose explanation stands in `param`."""
    error = {
        "code": str(problem.status),
        "message": "Param Incorrect" if problem.status == 400 else problem.message,
        "param": problem.message,
        "type": "",
    }
    return b"data:" + json.dumps({"error": error}).encode()


def vllm_error(problem: Problem) -> bytes:
    """The error is the body itself."""
    kind = "BadRequestError" if problem.status < 500 else "InternalServerError"
    error = {"object": "error", "message": problem.message, "type": kind}
    return json.dumps({**error, "param": problem.param, "code": problem.status}).encode()


def llama_error(problem: Problem) -> bytes:
    """llama.cpp repeats the status as a number."""
    kind = "invalid_request_error" if problem.status < 500 else "server_error"
    error = {"code": problem.status, "message": problem.message, "type": kind}
    return json.dumps({"error": error}).encode()


def openai_usage(prompt: int, cached: int, completion: int, reasoning: int) -> dict[str, Any]:
    """OpenAI's usage: totals include cached tokens and reasoning."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def deepseek_usage(prompt: int, cached: int, completion: int, reasoning: int) -> dict[str, Any]:
    """DeepSeek says the hits twice."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
        "prompt_cache_hit_tokens": cached,
        "prompt_cache_miss_tokens": prompt - cached,
    }


def short_usage(prompt: int, cached: int, completion: int, reasoning: int) -> dict[str, Any]:
    """GLM, llama.cpp and vLLM: no details of the output."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
