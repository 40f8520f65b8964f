"""One process of a training: `python -m stage_a_pipeline.stage_b.process TASK`, alone or one of several.

It ends with the process that started it, and tells that one what happens, one JSON line each, on its
standard output. What libraries print goes to standard error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stage_a_pipeline.errors import StageAError
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.stage_b.material import gather_material
from stage_a_pipeline.stage_b.training import TrainingAudience, train_adapter


class Events:
    """Lines to the parent. Of several processes, the first alone tells what they all do."""

    def __init__(self, descriptor: int, *, rank: int) -> None:
        self._descriptor = descriptor
        self._is_first = rank == 0

    def send(self, kind: str, *, from_any: bool = False, **fields: Any) -> None:
        """One event. A line is written at once, so that those of several processes do not mix."""
        if self._is_first or from_any:
            line = json.dumps({"event": kind, **fields}, ensure_ascii=False) + "\n"
            os.write(self._descriptor, line.encode("utf-8", "backslashreplace"))


def main(arguments: Sequence[str]) -> int:
    """Train as the task file says; the exit code is 0 when there is an adapter."""
    events = Events(os.dup(1), rank=int(os.environ.get("RANK", "0")))
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        trained = _train(json.loads(Path(arguments[0]).read_text("utf-8")), events)
    except StageAError as error:
        events.send("error", from_any=True, type=type(error).__name__, message=str(error))
        return 1
    except Exception as error:  # noqa: BLE001 - told to the parent, whatever it is
        traceback.print_exc()
        events.send("unexpected", from_any=True, message=f"{type(error).__name__}: {error}")
        return 1
    events.send("done", **trained)
    return 0


def _train(task: Mapping[str, Any], events: Events) -> dict[str, Any]:
    settings = Settings.model_validate(task["settings"])
    audience = TrainingAudience(
        notice=lambda sentence: events.send("notice", sentence=sentence),
        log=lambda sentence: events.send("log", sentence=sentence),
        progress=lambda done, total: events.send("progress", done=done, total=total),
    )
    trained = train_adapter(settings, gather_material(settings), audience, run_id=task["run_id"])
    return {"adapter": str(trained.adapter), "key": trained.folder.key}


def _end_with_parent() -> None:
    """Nobody would read what an orphan tells, and it would keep the next run waiting."""
    # Not through `sys.stdin`, whose lock this thread would still hold when Python shuts down.
    while os.read(0, 1 << 10):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
