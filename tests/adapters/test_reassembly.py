"""Data sets on devices: a GPU is leased for as long as it stitches, a CPU never."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch

from stage_a_pipeline.adapters import reassembly
from stage_a_pipeline.adapters.reassembly import stitch_on_device
from stage_a_pipeline.demo.scan import write_demo_scan
from stage_a_pipeline.reassembly.comparison import ComparisonAudience
from stage_a_pipeline.reassembly.reconstruction_file import read_reconstruction
from stage_a_pipeline.settings import Settings, load_settings
from stage_a_pipeline.storage import device_lease

NOBODY = ComparisonAudience()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    write_demo_scan(tmp_path / "data" / "first", positions=16, patch_size=24)
    return load_settings(
        environ={},
        overrides={
            "reassembly": {"data_dir": tmp_path / "data", "output_dir": tmp_path / "out"},
            "inference": {"lease_dir": tmp_path / "leases"},
        },
    )


def try_lease(folder: Path, name: str, told) -> None:
    """In another process: whether somebody holds the device."""
    waits = []

    def give_up(sentence: str) -> None:
        waits.append(sentence)
        raise InterruptedError

    try:
        with device_lease(folder, name, on_wait=give_up):
            told.put(False)
    except InterruptedError:
        told.put(True)


def is_leased(folder: Path, name: str) -> bool:
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    process = context.Process(target=try_lease, args=(folder, name, told))
    process.start()
    found = told.get(timeout=60)
    process.join(60)
    return bool(found)


@pytest.mark.parametrize(
    ("device", "used", "lease"),
    [("cuda", "cuda:0", "cuda_0"), ("cuda:1", "cuda:1", "cuda_1")],
)
def test_a_gpu_is_this_process_s_while_it_stitches_and_free_afterwards(
    settings, tmp_path, monkeypatch, device, used, lease
):
    seen = []

    def look(*_: object, device: str) -> tuple[()]:
        seen.append((device, is_leased(tmp_path / "leases", lease)))
        return ()

    # No GPU is needed to see who holds it.
    monkeypatch.setattr(reassembly, "choose_device", lambda _: torch.device(device))
    monkeypatch.setattr(reassembly, "stitch_data_set", look)
    stitch_on_device(settings, "first", NOBODY, run_id="one")
    assert seen == [(used, True)]
    assert not is_leased(tmp_path / "leases", lease)


def test_a_cpu_is_shared(settings, tmp_path):
    chosen = settings.model_copy(
        update={"reassembly": settings.reassembly.model_copy(update={"device": "cpu"})}
    )
    objects = stitch_on_device(chosen, "first", NOBODY, run_id="one")
    assert [one.model for one in objects] == ["baseline", "pinn", "true"]
    assert not (tmp_path / "leases").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_stitches_what_a_cpu_does(settings):
    found = []
    for device in ("cpu", "cuda:0"):
        chosen = settings.reassembly.model_copy(update={"device": device})
        (_, pinn, _) = stitch_on_device(
            settings.model_copy(update={"reassembly": chosen}), "first", NOBODY, run_id="one"
        )
        found.append(read_reconstruction(pinn.path).object)
    assert abs(found[0] - found[1]).max() < 1e-6
