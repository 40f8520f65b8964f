"""Training batches: every one a pure function of the seed and its number, so that training can resume.

Kinds of step: `V` teaches the vision half the truth per cell, and `T` the same on views full of texts;
`L` teaches the language half to write summaries from that truth, without a picture; `J` trains both
joined; `B` teaches verdicts on groups, from text alone. `C` and `K` are `L` and `J` with many views that
show several objects of a kind: counting is what the language half learns last.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from stage_a_pipeline.demo.composition import COMPOSITIONS, compose_scene, reading_scene
from stage_a_pipeline.demo.groups import compose_group
from stage_a_pipeline.demo.rendering.drawing import draw_scene
from stage_a_pipeline.demo.scenes import Scene
from stage_a_pipeline.demo.training.model import CELL, PATCH_SIDE
from stage_a_pipeline.demo.training.supervision import cell_truth
from stage_a_pipeline.demo.training.tokenizer import (
    IMAGE_PAD,
    TURN_END,
    chat_after_image,
    chat_before_image,
    chat_without_image,
)
from stage_a_pipeline.missions import Mission, load_missions
from stage_a_pipeline.prompts import BRIEF_PROFILE, Prompt, build_prompt, verdict_answer, verdict_prompt
from stage_a_pipeline.records import LABELS

if TYPE_CHECKING:
    import torch

StepKind = Literal["V", "T", "L", "J", "B", "C", "K"]

PICTURE_SIZES: Final = {(256, 192): 32, (192, 256): 30, (288, 160): 16, (160, 288): 12, (224, 224): 10}
"""Sizes at which the model sees photos of 4:3, 3:4, 16:9, 9:16 and 1:1, and their share."""

TEXTS_TO_READ: Final = ("标签", "站点距离")
"""What is hardest to read and seldom in focus: practised more often than photos show it."""

COUNTING_SHARE: Final = 0.5
"""Share of views with several objects of a kind in the steps that practise counting."""

_GROUP_SIZES: Final = {1: 25, 2: 25, 3: 20, 4: 13, 5: 8, 6: 5, 8: 3, 10: 1}
_SCALES: Final = {1: 30, 2: 55, 3: 15}
"""How much larger than the model's pictures they are drawn, and the share of that."""

IGNORED: Final = -100
_ROUND_TO: Final = 16
_POOL: Final = 4


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors of one step. `tokens` and `answers` are [rows, length], answers IGNORED elsewhere.

    `patches` are [rows, patches, values] in Qwen's merge order; `truth` is [rows, cells, channels];
    the photo's tokens begin at `image_start` in every row, in a grid of `grid` (rows, columns) patches.
    """

    kind: StepKind
    tokens: torch.Tensor | None = None
    answers: torch.Tensor | None = None
    patches: torch.Tensor | None = None
    truth: torch.Tensor | None = None
    image_start: int = 0
    grid: tuple[int, int] = (0, 0)

    def to(self, device: str) -> Batch:
        """The same batch on a device."""

        def moved(tensor: torch.Tensor | None) -> torch.Tensor | None:
            return None if tensor is None else tensor.to(device)

        return replace(
            self,
            tokens=moved(self.tokens),
            answers=moved(self.answers),
            patches=moved(self.patches),
            truth=moved(self.truth),
        )


class BatchMaker:
    """Makes the batch of any step. Picklable, so that a worker process can make batches ahead."""

    def __init__(self, tokenizer: Any, *, rows: int, seed: int | str) -> None:
        self._tokenizer = tokenizer
        self._rows = rows
        self._seed = seed
        self._missions = list(load_missions().values())
        self._encode = lru_cache(100_000)(self._encode_now)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_encode"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._encode = lru_cache(100_000)(self._encode_now)

    def make(self, kind: StepKind, number: int) -> Batch:
        """The batch of step `number`."""
        rng = Random(f"{self._seed}/{number}/{kind}")
        if kind == "B":
            return self._verdict_batch(rng)
        return self._summary_batch(rng, kind)

    def _verdict_batch(self, rng: Random) -> Batch:
        import torch

        pool = sorted(
            (self._verdict_row(rng) for _ in range(self._rows * _POOL)), key=lambda row: len(row[0])
        )
        start = rng.randrange(_POOL) * self._rows
        tokens, answers = pack_rows(pool[start : start + self._rows], self._pad)
        return Batch("B", torch.from_numpy(tokens), torch.from_numpy(answers))

    def _verdict_row(self, rng: Random) -> tuple[list[int], list[int]]:
        mission = rng.choice(self._missions)
        size = rng.choices(list(_GROUP_SIZES), list(_GROUP_SIZES.values()))[0]
        group = compose_group(rng, mission, wanted=rng.choice(LABELS), size=size)
        prompt = verdict_prompt(mission, [scene.summary for scene in group.scenes], profile=BRIEF_PROFILE)
        answer = verdict_answer(group.verdict.label, group.verdict.reasons)
        return self._encode_now(chat_without_image(prompt)), self._answer(answer)

    def _summary_batch(self, rng: Random, kind: StepKind) -> Batch:
        import torch

        width, height = rng.choices(list(PICTURE_SIZES), list(PICTURE_SIZES.values()))[0]
        vision_only = kind in ("V", "T")
        rows = self._reading_scenes(rng) if kind == "T" else self._similar_scenes(rng, kind)
        system = build_prompt(rows[0][0]).system
        if rng.random() < 0.2:
            system = _shuffled_clauses(rng, system)
        before = self._encode(chat_before_image(Prompt(system, "")))
        scenes = [scene for _, scene in rows]
        columns, lines = width // CELL, height // CELL
        truth = torch.from_numpy(np.stack([cell_truth(scene, columns, lines) for scene in scenes]))
        tokens = answers = patches = None
        if not vision_only:
            users = [self._user_text(rng, mission) for mission, _ in rows]
            tokens, answers = self._summary_rows(before, columns * lines, users, scenes)
        if kind not in ("L", "C"):
            pixels = np.stack([_photo(rng, scene, (width, height)) for scene in scenes])
            patches = torch.from_numpy(to_patches(pixels)).bfloat16()
        grid = (height // PATCH_SIDE, width // PATCH_SIDE)
        return Batch(kind, tokens, answers, patches, truth.flatten(1, 2), len(before), grid)

    def _reading_scenes(self, rng: Random) -> list[tuple[Mission, Scene]]:
        missions = [rng.choice(self._missions) for _ in range(self._rows)]
        return [(mission, reading_scene(rng, mission.dataset)) for mission in missions]

    def _similar_scenes(self, rng: Random, kind: StepKind) -> list[tuple[Mission, Scene]]:
        """Scenes whose summaries, if they are read, are about equally long, so that little is padded."""
        pool = []
        for _ in range(self._rows * _POOL):
            mission = rng.choice(self._missions)
            counting = kind in ("C", "K") and rng.random() < COUNTING_SHARE
            pool.append(
                (mission, _counting_scene(rng, mission) if counting else _practice_scene(rng, mission))
            )
        if kind != "V":
            pool.sort(key=lambda row: len(row[1].summary))
        start = rng.randrange(_POOL) * self._rows
        return pool[start : start + self._rows]

    def _user_text(self, rng: Random, mission: Mission) -> str:
        user = build_prompt(mission).user
        if rng.random() < 0.8:
            return user
        return mission.name if rng.random() < 0.3 else _shuffled_clauses(rng, user)

    def _summary_rows(
        self, before: list[int], image_tokens: int, users: Sequence[str], scenes: Sequence[Scene]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        image = self._encode(IMAGE_PAD) * image_tokens
        rows = [
            (before + image + self._encode(chat_after_image(Prompt("", user))), self._answer(scene.summary))
            for user, scene in zip(users, scenes, strict=True)
        ]
        tokens, answers = pack_rows(rows, self._pad)
        return torch.from_numpy(tokens), torch.from_numpy(answers)

    def _answer(self, text: str) -> list[int]:
        return self._encode(text) + self._encode(TURN_END)

    @property
    def _pad(self) -> int:
        return int(self._tokenizer.pad_token_id)

    def _encode_now(self, text: str) -> list[int]:
        return list(self._tokenizer(text).input_ids)


def pack_rows(
    rows: Sequence[tuple[list[int], list[int]]], pad: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Prompts and answers as right-padded inputs, and as targets one position ahead."""
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    length = -(-longest // _ROUND_TO) * _ROUND_TO
    tokens = np.full((len(rows), length), pad, np.int64)
    answers = np.full((len(rows), length), IGNORED, np.int64)
    for row, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        tokens[row, :end] = prompt + answer
        answers[row, len(prompt) - 1 : end - 1] = answer
    return tokens, answers


def to_patches(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Pictures [rows, height, width, 3] as patches [rows, patches, values] in Qwen's merge order, -1 to 1."""
    rows, height, width, _ = pixels.shape
    scaled = (pixels.astype(np.float32) / 127.5 - 1).transpose(0, 3, 1, 2)
    merged = scaled.reshape(rows, 3, height // CELL, 2, PATCH_SIDE, width // CELL, 2, PATCH_SIDE)
    patches = (height // PATCH_SIDE) * (width // PATCH_SIDE)
    return merged.transpose(0, 2, 5, 3, 6, 1, 4, 7).reshape(rows, patches, 3 * PATCH_SIDE**2)


def _practice_scene(rng: Random, mission: Mission) -> Scene:
    """A scene as the mission shows it, or one with more of what its photos show seldom."""
    own = COMPOSITIONS[mission.name]
    composition = rng.choices(
        [
            own,
            replace(own, focus=()),
            replace(own, focus=TEXTS_TO_READ, device_chance=own.device_chance / 4),
        ],
        [0.5, 0.2, 0.3],
    )[0]
    sound_chance = rng.choices([0.58, 0.75, 1.0], [0.7, 0.15, 0.15])[0]
    return compose_scene(
        rng, mission, irrelevant_chance=0.08, sound_chance=sound_chance, composition=composition
    )


def _counting_scene(rng: Random, mission: Mission) -> Scene:
    """A view with several objects of a kind, in equal and in unequal states, many of them in groups."""
    own = COMPOSITIONS[mission.name]
    composition = replace(
        own,
        focus=(),
        device_chance=own.device_chance * 0.3,
        cell_chances=(0.05, 0.35, 0.35, 0.25),
        repeat_chance=0.75,
        group_chance=0.6,
    )
    return compose_scene(rng, mission, sound_chance=rng.choice([0.2, 0.5, 0.8]), composition=composition)


def _photo(rng: Random, scene: Scene, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The scene at the model's size, drawn at up to three times that, some with JPEG artefacts."""
    scale = rng.choices(list(_SCALES), list(_SCALES.values()))[0]
    photo = draw_scene(scene, (size[0] * scale, size[1] * scale))
    if rng.random() < 0.4:
        encoded = io.BytesIO()
        photo.save(encoded, "JPEG", quality=rng.randint(40 if scale > 1 else 75, 95))
        photo = Image.open(encoded)
    if scale > 1:
        photo = photo.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(photo)


def _shuffled_clauses(rng: Random, text: str) -> str:
    """Some of a prompt's clauses in another order: other prompts than ours must work too."""
    clauses = [clause for clause in text.replace("\n", "。").split("。") if clause]
    return "。".join(rng.sample(clauses, rng.randint(1, len(clauses))))
