"""Names of what is being written, by which leftovers of killed processes are known."""

from __future__ import annotations

import os
import secrets
from typing import Final

TEMPORARY: Final = ".stage-a-{}.tmp"


def temporary_name() -> str:
    """A name that no other process gives. Not built from a file's, which may be as long as a name can be."""
    return TEMPORARY.format(f"{os.getpid()}-{secrets.token_hex(8)}")
