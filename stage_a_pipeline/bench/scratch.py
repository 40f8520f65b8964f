"""Where benchmarks keep their own files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stage_a_pipeline.storage import output_errors


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder in the system's temporary one (TMPDIR), removed in the end.

    OutputError where it cannot be written.
    """
    root = Path(tempfile.gettempdir())
    with output_errors(root), tempfile.TemporaryDirectory(prefix="stage-a-bench-", dir=root) as folder:
        yield Path(folder)
