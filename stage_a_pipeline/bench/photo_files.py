"""The photo files of a workload: rendered scenes, each file of other bytes.

Rendering takes longer than everything else, so a few scenes are drawn in every size, and each photo shows
one of them moved and lit in its own way.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

from PIL import ImageChops

from stage_a_pipeline.bench.workload import PlannedPhoto, Size
from stage_a_pipeline.demo.composition import compose_scene
from stage_a_pipeline.demo.rendering.drawing import draw_scene
from stage_a_pipeline.inference.batching import deal_out
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.records import Group, Image, ImageRef

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

MISSION: Final = "挡风板安装检查"
"""All photos are of one mission: its prompt is the prefix that they share."""
_SCENES_PER_SIZE: Final = 6
_QUALITY: Final = 85


def write_photos(root: Path, photos: Sequence[PlannedPhoto], *, seed: int) -> None:
    """Write every photo of the plan below `root`, as a JPEG at `photo_path`."""
    mission, rng = load_missions()[MISSION], Random(seed)
    drawn: dict[tuple[Size, int], Picture] = {}
    for place, photo in enumerate(photos):
        scene = photo.size, place % _SCENES_PER_SIZE
        if scene not in drawn:
            drawn[scene] = draw_scene(compose_scene(rng, mission), photo.size)
        path = photo_path(root, photo)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = _varied(drawn[scene], rng)
        # The number in the comment keeps two files apart that happen to look alike.
        picture.save(path, "JPEG", quality=_QUALITY, comment=str(place))


def _varied(picture: Picture, rng: Random) -> Picture:
    width, height = picture.size
    moved = ImageChops.offset(picture, rng.randrange(width // 4), rng.randrange(height // 4))
    gain, lift = rng.uniform(0.8, 1.2), rng.uniform(-20, 20)
    return moved.point([round(max(0, min(255, gain * level + lift))) for level in range(256)] * 3)


def photo_path(root: Path, photo: PlannedPhoto) -> Path:
    """Where the photo's file lies."""
    return root / f"group_{photo.group:05d}" / f"{photo.number}.jpg"


def photo_refs(root: Path, photos: Sequence[PlannedPhoto]) -> list[ImageRef]:
    """The photos as the scheduler takes them, in the plan's order."""
    groups = []
    for _, members in groupby(photos, key=lambda photo: photo.group):
        paths = [photo_path(root, photo) for photo in members]
        folder = paths[0].parent
        groups.append(
            Group(MISSION, "pass", folder.name, folder, tuple(Image(folder, path.name) for path in paths))
        )
    return deal_out(enumerate(groups), shards=1, mode="per_group")[0]
