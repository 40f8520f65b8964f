"""Words of models and files as a terminal may show them."""

from __future__ import annotations


def harmless(text: str) -> str:
    """The text without what would steer the terminal."""
    return "".join(mark if mark.isprintable() else "\ufffd" for mark in text)
