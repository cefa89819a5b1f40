"""Farebox: a self-hosted gateway to language models that charges prepaid credits per token."""

__version__ = "0.1.0"
