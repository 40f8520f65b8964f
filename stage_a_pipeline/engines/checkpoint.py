"""The checkpoint folder: found, checked, and hashed without loading a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from stage_a_pipeline.errors import CheckpointError
from stage_a_pipeline.settings import BUILTIN_CHECKPOINT

MODEL_TYPES: Final = ("qwen3_vl", "qwen3_vl_moe")
_HUB_PATTERNS = ["*.json", "*.safetensors", "*.jinja", "*.txt"]
_HASHED_SUFFIXES = (".json", ".safetensors", ".jinja", ".txt")
_REQUIRED = ("config.json", "preprocessor_config.json", "tokenizer_config.json")
_CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checked Qwen3-VL folder, and the LoRA adapter to merge into it, if any."""

    folder: Path
    adapter: Path | None = None

    def content_hash(self) -> str:
        """SHA-256 over names and bytes of all files that shape answers, weights included."""
        digest = hashlib.sha256()
        for folder in filter(None, (self.folder, self.adapter)):
            for path in _hashed_files(folder):
                digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
                with path.open("rb") as file:
                    while chunk := file.read(_CHUNK):
                        digest.update(chunk)
        return digest.hexdigest()


def resolve_checkpoint(checkpoint: str, *, adapter: Path | None = None) -> Checkpoint:
    """The checkpoint of a setting: `builtin`, a folder, or a hub id (fetched, safetensors only).

    CheckpointError names the folder, what is missing or wrong there, and the remedy.
    """
    if checkpoint == BUILTIN_CHECKPOINT:
        folder = Path(str(files("stage_a_pipeline.demo").joinpath("checkpoint")))
    elif _looks_like_hub_id(checkpoint):
        folder = _fetch(checkpoint)
    else:
        folder = Path(checkpoint).expanduser()
    _check_folder(folder)
    if adapter is not None:
        _check_adapter(adapter)
    return Checkpoint(folder.resolve(), adapter.resolve() if adapter is not None else None)


def _looks_like_hub_id(checkpoint: str) -> bool:
    parts = checkpoint.split("/")
    return (
        len(parts) == 2 and all(parts) and parts[0] not in (".", "..", "~") and not Path(checkpoint).exists()
    )


def _fetch(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=_HUB_PATTERNS))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise CheckpointError(
            f"checkpoint {hub_id!r} is no folder here and could not be fetched from the hub: "
            f"{_first_line(error)}; give the path of a downloaded folder (STAGE_A_CHECKPOINT)"
        ) from error


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise CheckpointError(
            f"checkpoint folder {folder} does not exist; correct engine.checkpoint (STAGE_A_CHECKPOINT)"
        )
    for name in _REQUIRED:
        if not (folder / name).is_file():
            raise CheckpointError(
                f"checkpoint {folder} has no {name}; give the folder of a complete Qwen3-VL checkpoint"
            )
    model_type = _read_json(folder / "config.json").get("model_type")
    if model_type not in MODEL_TYPES:
        raise CheckpointError(
            f"checkpoint {folder} is of model type {model_type!r}, not Qwen3-VL ({', '.join(MODEL_TYPES)})"
        )
    _check_weights(folder)


def _check_weights(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        weight_map = _read_json(index).get("weight_map")
        names = sorted(set(weight_map.values())) if isinstance(weight_map, Mapping) else []
    else:
        names = ["model.safetensors"]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing or not names:
        raise CheckpointError(
            f"checkpoint {folder} lacks {', '.join(missing) or 'weights'}; only safetensors are loaded, "
            "convert other formats with save_pretrained(..., safe_serialization=True)"
        )


def _check_adapter(adapter: Path) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (adapter / name).is_file():
            raise CheckpointError(
                f"adapter {adapter} has no {name}; give a LoRA folder written by PEFT in safetensors, "
                "or unset engine.adapter"
            )


def _hashed_files(folder: Path) -> Iterator[Path]:
    return iter(
        sorted(path for path in folder.iterdir() if path.suffix in _HASHED_SUFFIXES and path.is_file())
    )


def _read_json(path: Path) -> Mapping[str, object]:
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {_first_line(error)}") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path} must hold a JSON object")
    return document


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
