"""What a photo adds to the memory of the command and of its worker process: both watched from outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from stage_a_pipeline.bench.scale import run_command, watch_peaks
from stage_a_pipeline.jsonl import output_paths, read_manifest
from tests.conftest import MISSION, write_photo

# Both hand over more than one batch of rows: for the first, pyarrow imports pandas where that is installed.
FEW, MANY = 2_200, 4_200
MOST_KIB_PER_PHOTO = 16
"""Measured are 7 in the parent and 5 in the worker, mostly of buffers that fill up to 2,048 rows; of more
photos, each adds 0.6 to either (docs/performance.md). Decoded, a photo of 240x180 takes 127; larger ones
cost time alone, for their thumbnails in the report."""


def with_comment(jpeg: bytes, number: int) -> bytes:
    """The same picture as another file: a comment segment behind the start marker."""
    comment = str(number).encode()
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]


def write_tree(root: Path, jpeg: bytes, photos: int) -> None:
    for number in range(photos):
        path = root / MISSION / "审核通过" / f"g{number // 4:04d}" / f"{number % 4}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(with_comment(jpeg, number))


@pytest.fixture(scope="module")
def peaks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory")
    jpeg = write_photo(folder / "one.jpg", seed=1, size=(240, 180)).read_bytes()
    found = []
    for photos in (FEW, MANY):
        write_tree(folder / str(photos) / "in", jpeg, photos)
        place = folder / str(photos)
        found.append(run_command(place, root=place / "in", watch=watch_peaks))
        manifest = read_manifest(output_paths(folder / str(photos) / "out", MISSION).manifest)
        assert manifest.photos.written == photos
    return found


@pytest.mark.parametrize("process", ["parent", "worker"])
def test_a_photo_adds_a_few_kib_to_the_peak_and_never_its_pixels(peaks, process):
    few, many = (getattr(peak, f"{process}_mib") for peak in peaks)
    assert few > 0
    added = 1024 * (many - few) / (MANY - FEW)
    assert added < MOST_KIB_PER_PHOTO, f"{few:.0f} MiB for {FEW} photos, {many:.0f} MiB for {MANY}"
