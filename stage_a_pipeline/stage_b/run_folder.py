"""The folder of one training: its checkpoints, its metrics, and the adapter that it ends with.

`<stage_b>/runs/<key>/`, where the key says what is trained on what: another checkpoint, other tickets or
other settings never continue an old training. `<stage_b>/adapter` leads to the adapter trained last.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stage_a_pipeline.errors import InputError
from stage_a_pipeline.storage import atomic_write, ensure_folder, output_errors
from stage_a_pipeline.storage.temporary import temporary_name

ADAPTER: Final = "adapter"
RECORD: Final = "stage_b.json"
"""Beside an adapter's weights: what they were trained from, and what was left as it was."""
METRICS: Final = "metrics.jsonl"
_TRAINED_IDS: Final = "trained_on.txt"

_WHOLE: Final = "whole"
"""Marks a training checkpoint whose files are all there."""
_CHECKPOINT: Final = re.compile(r"checkpoint-(\d+)")
_AGAIN: Final = "remove its folder and train the adapter again"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """One training's folder below `root`, the folder of all that Stage-B learns."""

    root: Path
    key: str

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self.root / "runs" / self.key

    @property
    def checkpoints(self) -> Path:
        """Where training checkpoints lie."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """One JSON line per step."""
        return self.path / METRICS

    @property
    def tensorboard(self) -> Path:
        """Where TensorBoard looks."""
        return self.path / "tensorboard"

    @property
    def adapter(self) -> Path:
        """The trained adapter; there once training has ended."""
        return self.path / ADAPTER

    def describe(self, described: Mapping[str, object]) -> None:
        """Make the folder, and write down what is trained on what."""
        ensure_folder(self.path)
        _write_json(self.path / "training.json", described)

    def last_checkpoint(self) -> Path | None:
        """The newest whole checkpoint; what a killed process left of newer ones is removed."""
        numbered = sorted(
            (int(match[1]), path)
            for path in (self.checkpoints.iterdir() if self.checkpoints.is_dir() else ())
            if (match := _CHECKPOINT.fullmatch(path.name))
        )
        while numbered:
            _, path = numbered.pop()
            if (path / _WHOLE).is_file():
                return path
            with output_errors(path):
                shutil.rmtree(path)
        return None

    def mark_whole(self, step: int) -> None:
        """The checkpoint of that step is complete: from now on training may go on from it."""
        folder = self.checkpoints / f"checkpoint-{step}"
        for path in folder.iterdir():
            _flush(path)
        with atomic_write(folder / _WHOLE) as file:
            file.write(f"{step}\n")

    def forget_steps_after(self, step: int) -> None:
        """Drop the metrics of later steps, which will be taken again, and what a kill left of a line."""
        if not self.metrics.exists():
            return
        kept = [line for line in self.metrics.read_bytes().splitlines(True) if _step_of(line) <= step]
        with atomic_write(self.metrics, "wb") as file:
            file.writelines(kept)

    @contextmanager
    def new_adapter(self) -> Iterator[Path]:
        """An empty folder that becomes the adapter when the block ends, and is dropped when it raises."""
        unfinished = self.path / f".{ADAPTER}"
        with output_errors(unfinished):
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
        try:
            yield unfinished
            with output_errors(self.adapter):
                for path in unfinished.iterdir():
                    _flush(path)
                # What somebody has left of one without its weights.
                shutil.rmtree(self.adapter, ignore_errors=True)
                unfinished.rename(self.adapter)
                _flush(self.path)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def offer(self) -> Path:
        """Make this training's adapter the one at `<root>/adapter`; returns that path."""
        # A name of its own: each process of a training offers the adapter.
        link, new = self.root / ADAPTER, self.root / temporary_name()
        try:
            with output_errors(link):
                new.symlink_to(self.adapter.relative_to(self.root), target_is_directory=True)
                os.replace(new, link)  # noqa: PTH105 - follows no link
        finally:
            new.unlink(missing_ok=True)
        return link


def read_record(adapter: Path) -> dict[str, object]:
    """What stands beside an adapter's weights; InputError where it is no adapter of Stage-B."""
    path = adapter / RECORD
    try:
        record = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}; train an adapter first (stage-a grpo train), or give "
            "the folder of one (--adapter)"
        ) from error
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); {_AGAIN}") from error
    if not isinstance(record, dict):
        raise InputError(f"{path} is damaged (no JSON object); {_AGAIN}")
    return record


def write_record(adapter: Path, record: Mapping[str, object], group_ids: Iterable[str]) -> None:
    """Write down beside an adapter's weights what they are, and the ids of the tickets they learned from."""
    _write_json(adapter / RECORD, record)
    with atomic_write(adapter / _TRAINED_IDS) as file:
        # As JSON strings: an id may hold anything.
        file.writelines(json.dumps(one) + "\n" for one in sorted(set(group_ids)))


def trained_ids(adapter: Path) -> frozenset[str]:
    """The ids of the tickets that an adapter learned from; InputError where they cannot be told."""
    path = adapter / _TRAINED_IDS
    try:
        return frozenset(map(json.loads, path.read_text("utf-8").splitlines()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); without it nobody knows which tickets the adapter has not "
            f"seen; {_AGAIN}"
        ) from error


def _write_json(path: Path, mapping: Mapping[str, object]) -> None:
    with atomic_write(path) as file:
        json.dump(mapping, file, ensure_ascii=False, allow_nan=False, indent=2)
        file.write("\n")


def _step_of(line: bytes) -> float:
    """The step of a line of metrics; of one that was cut, beyond all steps."""
    if not line.endswith(b"\n"):
        return float("inf")
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
