"""Failed writes as errors for people: the file, the cause, the remedy."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stage_a_pipeline.errors import OutputError
from stage_a_pipeline.places import Place

_REMEDIES: Final = {
    errno.ENOENT: "create the folder first",
    errno.EEXIST: "a file stands where a folder should be; choose another folder",
    errno.ENOTDIR: "a file stands where a folder should be; choose another folder",
    errno.EISDIR: "a folder stands where the file should be; move it away",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOSPC: "free some space or choose a folder on another disk",
    errno.EDQUOT: "free some of your quota or choose a folder on another disk",
    errno.EFBIG: "raise the limit on file sizes or choose a folder on another disk",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "raise this machine's limit on open files (fs.file-max)",
    errno.EROFS: "choose a folder that is not mounted read-only",
    errno.EACCES: "make the folder writable for this user or choose another",
    errno.EPERM: "make the folder writable for this user or choose another",
    errno.ENOLCK: "choose a folder on a disk that supports file locks",
    errno.EOPNOTSUPP: "choose a folder on a disk that supports file locks",
    errno.ENOSYS: "choose a folder on a disk that supports file locks",
}
_STORE_REMEDIES: Final = {
    errno.ENOENT: "create the bucket first, or correct its name",
    errno.EACCES: "give credentials that may list, get, put and delete there",
    errno.EBUSY: "run again when the store has less to do",
}


@contextmanager
def output_errors(place: Place) -> Iterator[None]:
    """Turns a failed write of `place` into an OutputError that names the file, cause and remedy."""
    try:
        yield
    except OSError as error:
        raise output_error(place, error) from error


def output_error(place: Place, error: OSError) -> OutputError:
    """The OutputError of a failed write."""
    if isinstance(place, Path):
        remedy = _REMEDIES.get(error.errno or 0, "check the disk and the path")
        if str(place) == tempfile.tempdir:
            remedy += ", or set TMPDIR to another folder"
    else:
        remedy = _STORE_REMEDIES.get(error.errno or 0, "check the network and the store's address")
    return OutputError(f"{place} cannot be written: {error.strerror or error}; {remedy}")
