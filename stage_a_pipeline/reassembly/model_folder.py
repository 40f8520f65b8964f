"""What a model left in its folder: an object, patches, or the model itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from stage_a_pipeline.errors import ReassemblyError

ModelKind = Literal["reconstruction", "patches", "exported", "torchscript"]

_LOOKED_FOR: Final[dict[str, ModelKind]] = {
    "reconstruction.npz": "reconstruction",
    "patches.npz": "patches",
    "patches.npy": "patches",
    "model.pt2": "exported",
    "model.pt": "torchscript",
    "model.ts": "torchscript",
}
"""Files by name, the first one that is there is taken."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """What is taken of a folder, and the `others` that are not."""

    path: Path
    kind: ModelKind
    others: tuple[Path, ...] = ()

    @property
    def offsets(self) -> Path | None:
        """Where the positions of patches lie; None for those of the test data."""
        if self.path.suffix == ".npz":
            return self.path
        beside = self.path.with_name("offsets.npy")
        return beside if beside.exists() else None


def find_model(folder: Path) -> ModelFile:
    """What the folder holds. ReassemblyError, naming all that was looked for, where that is nothing."""
    if not folder.is_dir():
        raise ReassemblyError(f"{folder} is not an existing folder; give that of a model: {_wanted()}")
    found = [(folder / name, kind) for name, kind in _LOOKED_FOR.items() if (folder / name).is_file()]
    if not found:
        raise ReassemblyError(f"{folder} holds no model; looked for {_wanted()}")
    path, kind = found[0]
    return ModelFile(path, kind, tuple(other for other, _ in found[1:]))


def list_models(folder: Path) -> dict[str, ModelFile]:
    """The models in the folders below this one, by those' names, sorted. Raises ReassemblyError."""
    try:
        inner = sorted(folder.iterdir())
    except OSError as error:
        raise ReassemblyError(f"{folder} cannot be read: {error.strerror}; correct the path") from error
    return {
        place.name: find_model(place)
        for place in inner
        if any((place / name).is_file() for name in _LOOKED_FOR)
    }


def _wanted() -> str:
    return (
        "reconstruction.npz (`reconstructed_object`), patches.npz (`patches`, `offsets`), patches.npy (with "
        "offsets.npy, or the test data's positions), model.pt2 (torch.export), model.pt or model.ts "
        "(TorchScript)"
    )
