"""The files in deploy/, read as those read them that they are written for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


class Image:
    """The Dockerfile, instruction by instruction."""

    def __init__(self, path: Path) -> None:
        self.parser = DockerfileParser(fileobj=path.open("rb"))
        self.instructions = [
            (line["instruction"], line["value"])
            for line in self.parser.structure
            if line["instruction"] != "COMMENT"
        ]

    def values(self, instruction: str) -> list[str]:
        """What stands behind every instruction of a kind."""
        return [value for name, value in self.instructions if name == instruction]

    def command(self, instruction: str) -> list[str]:
        """The words of the last CMD or HEALTHCHECK in exec form."""
        value = self.values(instruction)[-1]
        words: list[str] = json.loads(value[value.index("[") :])
        return words


@pytest.fixture(scope="session")
def image() -> Image:
    return Image(DEPLOY / "Dockerfile")


@pytest.fixture(scope="session")
def compose() -> Mapping[str, Any]:
    document: Mapping[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    return document
