"""One engine over all photos, in a process of its own: `python -m stage_a_pipeline.bench.engine_run TASK`.

TASK is the JSON of an EngineTask; the EngineRun is written beside it, to `run.json`. An error that is meant
for users is one sentence on standard error, and exit code 1. The process ends when its standard input does.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from pathlib import Path
from typing import Final

from stage_a_pipeline.bench.contenders import CONTENDERS
from stage_a_pipeline.bench.engine_records import EngineRun, EngineTask, write_json
from stage_a_pipeline.errors import StageAError

RUN_FILE: Final = "run.json"


def run_engine(task: EngineTask) -> EngineRun:
    """Load the task's engine, warm it up, and measure it. Raises StageAError."""
    contender = CONTENDERS[task.engine]
    if contender.batches is not None:
        from stage_a_pipeline.bench.plain_generate import run_plain

        return run_plain(task, contender.batches)
    from stage_a_pipeline.bench.pipeline_run import run_pipeline

    return run_pipeline(task, contender)


def main(task_file: Path) -> None:
    """Run the task of that file."""
    write_json(task_file.with_name(RUN_FILE), run_engine(EngineTask.read(task_file)))


def _end_with_input() -> None:
    """Standard input is held open by who waits for the run: nobody does any more when it ends."""
    # Not through `sys.stdin`, whose lock this thread would still hold when Python shuts down.
    while os.read(0, 1 << 12):
        pass
    # What an engine has started would outlive it.
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        main(Path(sys.argv[1]))
    except StageAError as error:
        sys.exit(f"Error: {error}")
