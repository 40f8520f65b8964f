"""Stage-B for ms-swift: a folder with rewards, data and the command line that trains on them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.errors import InputError, OutputError
from stage_a_pipeline.settings_grpo import GrpoSettings
from stage_a_pipeline.stage_b.architecture import read_architecture
from stage_a_pipeline.stage_b.layers import LayerSelection, select_last_blocks
from stage_a_pipeline.stage_b.swift_script import (
    HELD_OUT,
    PLUGIN,
    SCRIPT,
    TRAIN,
    Dtype,
    SwiftModel,
    train_script,
)
from stage_a_pipeline.storage import atomic_write, ensure_folder
from stage_a_pipeline.storage.failures import output_errors

Row = Mapping[str, object]
"""One ticket as `tickets_to_dataset` has it."""

_README: Final = """\
# A verdict adapter, trained by ms-swift

Written by `stage-a grpo export-swift` for ms-swift 4.6.

| file | what it is |
|---|---|
| `train.sh` | the command line: `bash train.sh`, with arguments of your own behind it, which win |
| `plugin.py` | the rewards `stage_b_label`, `stage_b_format` and `stage_b_consistency` |
| `train.jsonl` | {train} tickets to learn from |
| `held_out.jsonl` | {held_out} tickets that training never sees |
| `output/` | what ms-swift writes: folders `checkpoint-N` with the adapter, and its logs |

The environment needs ms-swift, and the pipeline for its rewards (the latter from the pipeline's folder):

```
pip install 'ms-swift>=4.6,<4.7' 'qwen_vl_utils>=0.0.14' msgspec torchvision universal-pathlib
pip install --no-deps .
```

The last {blocks} of {depth} language blocks get an adapter; the vision encoder, the aligner and all other
blocks stay as they are. Answers on the tickets that training never saw:

```
HF_HUB_OFFLINE=1 swift infer --use_hf true --adapters output/checkpoint-N --val_dataset held_out.jsonl \\
  --temperature 0 --max_new_tokens {max_new_tokens} --result_path answers.jsonl
```

The adapter is a PEFT folder: `engine.adapter = ".../output/checkpoint-N"` of the pipeline takes it as it is.
"""


@dataclass(frozen=True, slots=True)
class SwiftExport:
    """What was written: the script to run, how many tickets it learns from, and which layers it changes."""

    script: Path
    train: int
    held_out: int
    layers: LayerSelection


def export_swift(
    folder: Path,
    *,
    train: Iterable[Row],
    held_out: Iterable[Row],
    settings: GrpoSettings,
    checkpoint: str,
    dtype: Dtype = "bfloat16",
) -> SwiftExport:
    """Write everything that ms-swift needs to train on these tickets into a new or empty folder.

    train.sh is written last, so that a folder with it is complete. OutputError for a folder that holds
    anything or cannot be written, InputError without tickets to learn from, CheckpointError for a
    checkpoint that is not Qwen3-VL.
    """
    resolved = resolve_checkpoint(checkpoint)
    architecture = read_architecture(resolved)
    layers = select_last_blocks(architecture.module_names, settings.lora_last_k)
    lines = {TRAIN: [_encode(row) for row in train], HELD_OUT: [_encode(row) for row in held_out]}
    if not lines[TRAIN]:
        raise InputError(f"no tickets to learn from: {folder} was not written; give more files (grpo.files)")
    _claim(folder)
    for name, encoded in lines.items():
        _write(folder / name, encoded)
    _write(folder / PLUGIN, [files(__package__).joinpath("swift_plugin.py").read_bytes()])
    readme = _README.format(
        train=len(lines[TRAIN]),
        held_out=len(lines[HELD_OUT]),
        blocks=len(layers.blocks),
        depth=layers.depth,
        max_new_tokens=settings.max_new_tokens,
    )
    _write(folder / "README.md", [readme.encode()])
    script = folder / SCRIPT
    model = SwiftModel(resolved.folder, architecture.model_type, dtype)
    text = train_script(settings, model=model, layers=layers)
    _write(script, [text.encode()])
    return SwiftExport(script, len(lines[TRAIN]), len(lines[HELD_OUT]), layers)


def _claim(folder: Path) -> None:
    ensure_folder(folder)
    with output_errors(folder):
        held = sorted(path.name for path in folder.iterdir())
    if held:
        raise OutputError(f"folder {folder} holds {held[0]} already; give an empty or new folder")


def _encode(row: Row) -> bytes:
    """One line of ms-swift's dataset: the chat as `messages`, and the columns that the rewards take."""
    line = {"messages": row["prompt"], **{name: value for name, value in row.items() if name != "prompt"}}
    return (json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _write(path: Path, parts: Iterable[bytes]) -> None:
    with atomic_write(path, "wb") as file:
        file.writelines(parts)
