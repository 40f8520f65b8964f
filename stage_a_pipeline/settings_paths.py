"""Settings that are paths or URLs, and where things lie that no setting places."""

from __future__ import annotations

import os
import re
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import (
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetPydanticSchema,
    ValidatorFunctionWrapHandler,
)
from pydantic_core import CoreSchema, core_schema
from upath import UPath

from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.places import as_place, is_url, to_path


def _expanded(path: object) -> object:
    if not isinstance(path, str):
        return path
    if not path.strip():
        raise ValueError("a path must not be blank; leave the setting out instead")
    try:
        return Path(path).expanduser() if is_in_a_home(path) else Path(path)
    except RuntimeError as error:
        raise ValueError(str(error)) from error


def is_in_a_home(path: str) -> bool:
    """Whether a path begins with somebody's home folder; `~$` begins the name of an office program's mark."""
    return path.startswith("~") and not path.startswith("~$")


def _on_this_machine(path: object) -> object:
    if not isinstance(path, str) or not is_url(path):
        return _expanded(path)
    return to_path(as_place(path))


def _place(value: object, validate_path: ValidatorFunctionWrapHandler) -> object:
    if isinstance(value, str) and is_url(value):
        return as_place(value)
    return value if isinstance(value, UPath) else validate_path(value)


def _place_schema(_: object, handler: GetCoreSchemaHandler) -> CoreSchema:
    as_text = core_schema.plain_serializer_function_ser_schema(str, when_used="json")
    return core_schema.no_info_wrap_validator_function(
        _place, handler.generate_schema(FilePath), serialization=as_text
    )


FilePath = Annotated[Path, Field(strict=False), BeforeValidator(_on_this_machine)]
"""A path of this machine."""

FilePlace = Annotated[Path | UPath, GetPydanticSchema(_place_schema)]
"""A path of this machine, or the URL of an object or a prefix."""


def state_folder(url: UPath) -> Path:
    """The folder of this user for what must stay on this machine of an output that does not.

    Its name tells the URL, and no other URL has it. ConfigurationError where the user has no home.
    """
    try:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise ConfigurationError(
            f"{error}: set output.local_work_dir to a folder of this machine for journals, tables and locks"
        ) from error
    readable = re.sub(r"[^0-9A-Za-z._-]+", "-", str(url))[:80]
    return Path(state) / "stage-a" / f"{readable}-{sha256(str(url).encode()).hexdigest()[:12]}"
