"""A user's TOML file, read with errors that a user can act on."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from stage_a_pipeline.errors import ConfigurationError


def read_toml(path: Path, *, what: str, remedy: str) -> dict[str, Any]:
    """The file's tables. ConfigurationError says which file (`what`) fails, why, and the `remedy`."""
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(
            f"{what} {path} cannot be read: {error.strerror or error}; {remedy}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{what} {path} is not valid TOML: {error}") from error
