"""Names of what is being written, by which leftovers of killed processes are known, and temporary files."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stage_a_pipeline.errors import OutputError
from stage_a_pipeline.storage.failures import output_errors

TEMPORARY: Final = ".stage-a-{}.tmp"


def temporary_name() -> str:
    """A name that no other process gives. Not built from a file's, which may be as long as a name can be."""
    return TEMPORARY.format(f"{os.getpid()}-{secrets.token_hex(8)}")


@contextmanager
def temporary_file() -> Iterator[Path]:
    """An empty file in the temporary folder, for as long as the block lasts. Raises OutputError."""
    path = make_temporary_file()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def make_temporary_file() -> Path:
    """An empty file in the temporary folder, which the caller removes. Raises OutputError."""
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError as error:
        raise OutputError(f"{error.strerror}; set TMPDIR to a folder on a disk with some space") from error
    with output_errors(Path(folder)):
        descriptor, name = tempfile.mkstemp(prefix="stage-a-", dir=folder)
    os.close(descriptor)
    return Path(name)
