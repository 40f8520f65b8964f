"""Real photos, trees and settings for all tests. Nothing here reaches outside the test's folder."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Final

import pytest
from PIL import Image as Pillow

from stage_a_pipeline.storage import objects
from tests.object_store import Proxy, Store, serve

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


_LONGEST: Final = (
    "defs/test_user_interface",
    "test_command_line",
    "cluster/test_run",
    "docs/test_commands",
    "faults/test_stores",
    "deploy/test_services",
    "defs/test_real_checkpoint",
    "faults/test_kills",
    "faults/test_workers",
    "faults/test_postgres",
    "faults/test_stage_b_faults",
    "test_benchmarks",
    "demo/test_checkpoint",
    "defs/test_stage_b",
    "bench/test_engines",
)
"""Files that take most of a minute and more. One that begins last keeps the other processes waiting."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, all others as they were."""
    order = {f"tests/{name}.py": place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: order.get(item.nodeid.partition("::")[0], len(order)))


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith(("STAGE_A_", "DAGSTER_"))]:
        monkeypatch.delenv(name)
    return


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder that ordinary users may not write to, with a file."""
    with tempfile.TemporaryDirectory() as base:
        Path(base).chmod(0o755)
        folder = Path(base) / "fixed"
        folder.mkdir(mode=0o555)
        (folder / "old.jsonl").write_text("old")
        yield folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Proxy]:
    """One S3 server for all tests, on loopback."""
    with serve() as proxy:
        yield proxy


@pytest.fixture
def store(s3_server: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An empty bucket, and a store that answers as it should until the test says otherwise."""
    # Waiting between tries is not what is tested.
    monkeypatch.setattr(objects, "_FIRST_WAIT", 0.01)
    yield Store(s3_server, f"bucket-{next(_numbers)}")
    s3_server.reset()


_numbers = count()
