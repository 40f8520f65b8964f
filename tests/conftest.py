"""Real photos, trees and settings for all tests. Nothing here reaches outside the test's folder."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from PIL import Image as Pillow

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

MISSION = "挡风板安装检查"
BRACKETS = "BBU安装方式检查（正装）"
LABEL_FOLDERS = {"pass": "审核通过", "fail": "审核不通过"}


def write_photo(path: Path, *, seed: int, size: tuple[int, int] = (96, 64)) -> Path:
    """A JPEG of coloured blocks; different seeds give different pixels."""
    rng = random.Random(seed)
    photo = Pillow.new("RGB", size)
    for x in range(0, size[0], 32):
        for y in range(0, size[1], 32):
            photo.paste(tuple(rng.randrange(256) for _ in range(3)), (x, y, x + 32, y + 32))
    path.parent.mkdir(parents=True, exist_ok=True)
    photo.save(path, "JPEG", quality=90)
    return path


def write_groups(
    root: Path, mission: str, groups: Mapping[str, Sequence[int]], *, first_seed: int = 0
) -> Path:
    """Groups per label: `{"fail": [3, 1], "pass": [2]}` are two fail groups of 3 and 1 photos, one pass."""
    seed = first_seed
    for label, sizes in groups.items():
        for number, size in enumerate(sizes, start=1):
            folder = root / mission / LABEL_FOLDERS[label] / f"QC-20241028-{label}{number:03d}"
            for photo in range(1, size + 1):
                write_photo(folder / f"IMG_{photo}.jpg", seed=seed)
                seed += 1
    return root


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith(("STAGE_A_", "DAGSTER_"))]:
        monkeypatch.delenv(name)
    return
