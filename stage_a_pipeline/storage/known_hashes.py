"""Content hashes of objects that were fetched before: a run that goes on need not fetch them again."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from functools import cached_property
from pathlib import Path
from typing import Final

from upath import UPath

from stage_a_pipeline.storage.failures import output_errors
from stage_a_pipeline.storage.files import ensure_folder
from stage_a_pipeline.storage.objects import ObjectState

_LINE: Final = re.compile(rb"([0-9a-f]{40}) ([0-9a-f]{64})\n")


class KnownHashes:
    """SHA-256 by the URL, size and version of an object; safe among threads and processes.

    One line each in a file that is only appended to; a torn one costs its photo's hash, and the next. Each
    takes about 200 bytes of memory. Raises OutputError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def find(self, place: UPath, state: ObjectState) -> str | None:
        """The hash of what the object held in that state, if it was ever told."""
        with self._lock:
            found = self._hashes.get(bytes.fromhex(object_key(place, state)))
        return None if found is None else found.hex()

    def add(self, place: UPath, state: ObjectState, sha256: str) -> None:
        """Tell the hash of what the object holds. Not of one whose store gives it no version."""
        if not state.version:
            return
        key, value = object_key(place, state), bytes.fromhex(sha256)
        with self._lock:
            if self._hashes.get(bytes.fromhex(key)) == value:
                return
            self._hashes[bytes.fromhex(key)] = value
            with output_errors(self._path), self._path.open("ab", buffering=0) as file:
                file.write(f"{key} {sha256}\n".encode())

    @cached_property
    def _hashes(self) -> dict[bytes, bytes]:
        ensure_folder(self._path.parent)
        with output_errors(self._path):
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
            with os.fdopen(descriptor, "rb") as file:
                lines = map(_LINE.fullmatch, file)
                return {
                    bytes.fromhex(line[1].decode()): bytes.fromhex(line[2].decode()) for line in lines if line
                }


def object_key(place: UPath, state: ObjectState) -> str:
    """Forty letters that stand for an object in that state."""
    key = f"{place}\0{state.size}\0{state.version}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(key, digest_size=20).hexdigest()
