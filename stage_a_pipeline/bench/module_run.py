"""A module as a process of its own, with an end for all that it starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from tempfile import TemporaryFile
from typing import Final

from stage_a_pipeline.errors import StageAError

_LAST_WORDS: Final = 1500


def run_module(module: str, argument: str, *, environment: Mapping[str, str], what: str) -> str:
    """What a module says on standard output. StageAError with its last words when it fails.

    Whatever it has started ends with it. Its standard input ends with this process, even a killed one.
    """
    watched, held = os.pipe()
    # Files, and not pipes: those end when the last process that has them does, which may be an orphan.
    with TemporaryFile() as output, TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", module, argument],
                env=environment,
                stdin=watched,
                stdout=output,
                stderr=complaints,
                start_new_session=True,
            )
            try:
                code = process.wait()
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        finally:
            os.close(watched)
            os.close(held)
        output.seek(0)
        complaints.seek(0)
        said, complained = output.read().decode(), complaints.read().decode(errors="replace")
    if code:
        words = complained.strip()[-_LAST_WORDS:] or said.strip()[-_LAST_WORDS:]
        raise StageAError(f"{what} ended with code {code}: {words}")
    return said
