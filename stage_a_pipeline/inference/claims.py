"""Who is asking which photo: the same bytes are not asked on two devices at once.

A claim is an advisory lock on one byte of a shared file, at an offset that the photo's content and its
fingerprint give. It takes no room, and ends with its process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from stage_a_pipeline.storage import output_errors


class PhotoClaims:
    """The claims of one process. Within a process, whoever asks second gets the claim as well.

    Raises OutputError where the file cannot be written or locked.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def take(self, key: bytes) -> bool:
        """Whether the photo of this key (see `answer_key`) is this process's to ask."""
        with output_errors(self._path):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _offset(key))
            # A system may say either of a lock that somebody else holds.
            except (BlockingIOError, PermissionError):
                return False
        return True

    def release(self, key: bytes) -> None:
        """Leave the photo to others."""
        with output_errors(self._path):
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _offset(key))

    def close(self) -> None:
        """Leave all photos to others."""
        os.close(self._file)

    def __enter__(self) -> PhotoClaims:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _offset(key: bytes) -> int:
    # Offsets of files are 63 bits; two photos that share one wait for each other, and that is all.
    return int.from_bytes(key[:8], "big") >> 2
