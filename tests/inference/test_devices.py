"""Workers and the leases on their devices."""

from contextlib import ExitStack

import pytest

from stage_a_pipeline.inference.devices import Worker, leased, list_workers
from stage_a_pipeline.settings import EngineSettings


class DeviceIsTakenError(Exception):
    """Somebody had to wait."""


def give_up() -> None:
    raise DeviceIsTakenError


def test_one_worker_per_entry_each_with_a_name_of_its_own() -> None:
    workers = list_workers(["cpu", "cpu", "cuda:0", "cuda:0+1", "cuda:2+3"])
    assert [worker.key for worker in workers] == ["cpu", "cpu_1", "cuda_0", "cuda_0_and_1", "cuda_2_and_3"]


@pytest.mark.parametrize(
    ("device", "leases"),
    [("cpu", ("cpu",)), ("cuda:3", ("cuda_3",)), ("cuda:10+2", ("cuda_2", "cuda_10"))],
)
def test_a_split_model_leases_each_of_its_devices_in_one_order(device: str, leases: tuple[str, ...]) -> None:
    assert Worker(device).leases == leases


@pytest.mark.parametrize(
    ("held", "wanted", "waits"),
    [
        ("cuda:0+1", "cuda:1", True),
        ("cuda:1", "cuda:1+0", True),
        ("cuda:0+1", "cuda:1+2", True),
        ("cuda:0+1", "cuda:2+3", False),
        ("cuda:0+1", "cuda:2", False),
    ],
)
def test_a_device_of_a_split_model_is_nobody_elses(tmp_path, held: str, wanted: str, waits: bool) -> None:
    with ExitStack() as stack:
        stack.enter_context(leased(Worker(held), tmp_path, on_wait=pytest.fail))
        if waits:
            stack.enter_context(pytest.raises(DeviceIsTakenError))
        stack.enter_context(leased(Worker(wanted), tmp_path, on_wait=print, while_waiting=give_up))
        assert not waits
    # Whoever gave up, or has finished, holds nothing.
    with leased(Worker("cuda:0+1+2+3"), tmp_path, on_wait=pytest.fail):
        pass


def test_a_split_model_has_the_type_of_numbers_of_its_devices() -> None:
    assert EngineSettings(engine="vllm", devices=("cuda:0+1",)).dtype_on("cuda:0+1") == "bfloat16"
