"""Trainings in processes of their own: one, or for several devices, one each through torch's launcher.

TRL sets seeds, environment variables and devices for its whole process, and a training that crashes takes
its process along: neither is for the process of a Dagster run.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import IO, Any, Final

from stage_a_pipeline.errors import ConfigurationError, TrainingError, error_of_kind
from stage_a_pipeline.settings import GrpoSettings, Settings
from stage_a_pipeline.stage_b.run_folder import RunFolder, read_record
from stage_a_pipeline.stage_b.training import Trained, TrainingAudience
from stage_a_pipeline.storage.temporary import temporary_file

_MODULE: Final = "stage_a_pipeline.stage_b.process"
_TAIL: Final = 12
"""Lines of a dead process's last words that are shown."""
_GRACE_SECONDS: Final = 10.0


def run_training(settings: Settings, audience: TrainingAudience, *, run_id: str) -> Trained:
    """As train_adapter, on all `engine.devices`.

    A killed or interrupted training goes on from its last checkpoint when it is run again. TrainingError,
    with the last words, when a process dies.
    """
    require_extra(settings.grpo)
    with temporary_file() as task:
        told = {"settings": settings.model_dump(mode="json", exclude={"automation"}), "run_id": run_id}
        task.write_text(json.dumps(told), "utf-8")
        with _started(_command(settings, task), _environment(settings)) as process:
            found = _listen(process, audience)
    folder = RunFolder(settings.stage_b_dir, found["key"])
    return Trained(Path(found["adapter"]), folder, read_record(folder.adapter))


def require_extra(settings: GrpoSettings) -> None:
    """ConfigurationError where a library that trains, or that the settings name, is not installed."""
    from importlib.util import find_spec

    missing = [name for name in ("trl", "peft", "datasets", "accelerate") if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"training needs {', '.join(missing)}, which the extra `grpo` has: pip install '.[grpo]' in the "
            "project's folder"
        )
    named: dict[str, Sequence[str]] = {"grpo.trackers": settings.trackers}
    if settings.rollouts != "transformers":
        named["grpo.rollouts"] = ("vllm",)
    for setting, packages in named.items():
        for package in packages:
            if find_spec(package) is None:
                raise ConfigurationError(
                    f"{setting} asks for {package}, which is not installed: install it beside TRL"
                )


def _command(settings: Settings, task: Path) -> list[str]:
    devices = settings.engine.devices
    if len(devices) == 1:
        return [sys.executable, "-m", _MODULE, str(task)]
    # torch's own launcher: accelerate's starts a single process where it is told to stay on CPUs.
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(len(devices))]
    # A free port, and an address that needs no name of this machine.
    return [*launch, "--standalone", "--local_addr", "127.0.0.1", "-m", _MODULE, str(task)]


def _environment(settings: Settings) -> dict[str, str]:
    """This process's, with only the GPUs of the settings in sight: trainers take all that they see."""
    environment = dict(os.environ)
    devices = [device.partition("+")[0] for device in settings.engine.devices]
    ordinals = [device.partition(":")[2] for device in devices if device.startswith("cuda")]
    if ordinals:
        visible = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
        # A GPU that is not there hides all that are named behind it; training tells how many are there.
        known = dict(enumerate(visible)) if visible != [""] else {}
        given = [known.get(int(one), "-1") if known else one for one in ordinals]
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(given)
    # Tokenizers warn of forks that datasets make.
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    return environment


@contextmanager
def _started(command: Sequence[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """The process, in a group of its own that ends with this block; it ends too when its input does."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def _listen(process: subprocess.Popen[str], audience: TrainingAudience) -> dict[str, Any]:
    """What the process tells until it has ended; raises what it raised."""
    assert process.stdout is not None
    assert process.stderr is not None
    words: deque[str] = deque(maxlen=_TAIL)
    reader = Thread(target=_remember, args=(process.stderr, words), daemon=True)
    reader.start()
    unexpected, done = "", None
    for line in process.stdout:
        message: dict[str, Any] = json.loads(line)
        match message["event"]:
            case "notice":
                audience.notice(message["sentence"])
            case "log":
                audience.log(message["sentence"])
            case "progress":
                audience.progress(message["done"], message["total"])
            case "error":
                raise error_of_kind(message["type"], message["message"])
            case "unexpected":
                unexpected = message["message"]
            case "done":
                # Not the end: trackers still send what they hold.
                done = message
    if done is not None:
        return done
    code = process.wait()
    reader.join(_GRACE_SECONDS)
    raise TrainingError(
        f"the training's process ended ({unexpected or _cause(code)}); what it had trained is kept: run "
        "again to go on after the last checkpoint. Its last words: "
        f"{' | '.join(map(str.strip, words)) or 'none'}"
    )


def _remember(spoken: IO[str], words: deque[str]) -> None:
    with spoken:
        words.extend(spoken)


def _cause(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
