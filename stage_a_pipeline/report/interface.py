"""The words of the report's pages, in Chinese and in English."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Final, Literal, get_args

from markupsafe import Markup

Language = Literal["zh", "en"]
LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)


@cache
def interface_texts() -> Mapping[str, Mapping[Language, str]]:
    """Every text by its key and language."""
    packaged = files("stage_a_pipeline.report").joinpath("interface.toml").read_text("utf-8")
    texts: Mapping[str, Mapping[Language, str]] = tomllib.loads(packaged)
    return texts


def texts_in(language: Language) -> Mapping[str, Callable[..., str]]:
    """What templates write words with.

    `text(key, **figures)` gives an element whose words the page's script can put into the other language;
    `words(key, **figures)` gives the bare words.
    """

    def words(key: str, **figures: object) -> str:
        return interface_texts()[key][language].format(**figures)

    def text(key: str, **figures: object) -> str:
        told = Markup(' data-figures="{}"').format(json.dumps(figures, ensure_ascii=False)) if figures else ""
        return Markup('<span data-text="{}"{}>{}</span>').format(key, told, words(key, **figures))

    return {"text": text, "words": words}
