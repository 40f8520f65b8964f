"""The demo of Stage-B on the command line: missions whose rules the built-in checkpoint has to learn."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from stage_a_pipeline.demo.tree import write_demo_tree
from stage_a_pipeline.demo_tour import dagster_home, print_step
from stage_a_pipeline.grpo_terminal import evaluate_adapter_with_bar, train_with_bar
from stage_a_pipeline.settings import ENVIRONMENT, SETTINGS_VARIABLE, Settings, load_settings
from stage_a_pipeline.storage import atomic_write
from stage_a_pipeline.terminal import console, materialise_with_bar

MISSIONS: Final = ("RRU接地检查", "BBU布线检查")
"""Both pass by rules that the checkpoint has never seen."""
GROUPS: Final = 200
_TREE_SEED: Final = 69
"""Of a tree whose groups have ten photos at most: prompts of many photos take a CPU long."""
_SETTINGS: Final = """\
# Settings of the demo of Stage-B. docs/stage-b.md explains those of [grpo].

[discovery]
input_root = "photos"
missions_file = "photos/missions.toml"

[engine]
batch_size = 16
max_new_tokens = 256

[grpo]
# A small model in a hurry: higher rates and more answers per prompt than a large one needs, and enough
# temperature that a checkpoint which is sure of its old rules tries something else.
seed = {seed}
held_out_fraction = 0.25
lora_last_k = 2
lora_rank = 16
lora_alpha = 32
lora_dropout = 0.0
num_generations = 8
prompts_per_step = 8
gradient_accumulation = 1
learning_rate = 1e-3
warmup_steps = 5
max_steps = 140
max_new_tokens = 48
temperature = 1.2
top_p = 1.0
# The form is lost first where answers are drawn so hot.
reward_weights = [1.0, 1.0, 0.2]

[output]
output_dir = "output"
"""


def run_learning_demo(folder: Path, *, seed: int) -> int:
    """Render photos, summarise them, train on the groups' labels, and evaluate; returns failed missions.

    An interrupted demo goes on where it stopped: photos that were summarised and steps that were taken are
    not repeated. The seed is that of Stage-B; the photos are the same for all.
    """
    tree = write_demo_tree(folder / "photos", missions=MISSIONS, groups=GROUPS, seed=_TREE_SEED)
    print_step("1. Photos", f"  {tree.sentence()}")
    settings = _settings(folder, seed)
    print_step("2. Stage-A", " every photo summarised by the built-in Qwen3-VL checkpoint")
    started = time.monotonic()
    failed = materialise_with_bar(MISSIONS, settings_file=folder / "settings.toml", verbose=False)
    if failed:
        return failed
    _print_seconds("Stage-A", started)
    print_step("3. Stage-B", " GRPO on the groups' labels, which follow rules that are new to the checkpoint")
    started = time.monotonic()
    train_with_bar(settings)
    _print_seconds("training", started)
    print_step("4. Evaluation", " tickets that it has not seen, before and after")
    evaluate_adapter_with_bar(settings, None)
    return 0


def _settings(folder: Path, seed: int) -> Settings:
    """The demo's settings file, and what it says, wherever the demo is run."""
    for variable in ENVIRONMENT:
        os.environ.pop(variable, None)
    os.environ["DAGSTER_HOME"] = str(dagster_home(folder))
    path = folder / "settings.toml"
    with atomic_write(path) as file:
        file.write(_SETTINGS.format(seed=seed))
    os.environ[SETTINGS_VARIABLE] = str(path)
    return load_settings(environ=os.environ)


def _print_seconds(what: str, started: float) -> None:
    console.print(f"   {what} took {time.monotonic() - started:.0f} s")
