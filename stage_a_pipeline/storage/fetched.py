"""Objects as files of this machine: whole or not there at all."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import BinaryIO, Final

from upath import UPath

from stage_a_pipeline.storage import objects
from stage_a_pipeline.storage.failures import output_error, output_errors
from stage_a_pipeline.storage.files import ensure_folder
from stage_a_pipeline.storage.temporary import temporary_name

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def fetch_file(place: UPath, target: Path, state: objects.ObjectState) -> BinaryIO:
    """Put what an object holds in place of a file, and open that to read.

    Raises OSError for what is wrong with the object, OutputError for what is wrong with this machine's disk.
    """
    temporary = ensure_folder(target.parent) / temporary_name()
    with output_errors(target.parent):
        temporary.touch()
    try:
        objects.download(place, temporary, state)
        with output_errors(target.parent):
            # Opened before others know of it, who might remove it.
            file = temporary.open("rb")
            temporary.replace(target)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise output_error(target.parent, error) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
    return file
