"""The demo tree: folders of rendered photos as the field sends them, a reviewers' workbook, and the truth.

`<root>/<mission>/{审核通过|审核不通过}/<group>/*.jpg`, `<root>/reviews.xlsx` and `<root>/truth.jsonl`;
`<root>/missions.toml` where discovery needs it, for missions of `unseen_missions_file()`.
The truth is for evaluation alone; inference never reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stage_a_pipeline.demo.photos import Photo, encode_photo
from stage_a_pipeline.demo.reviews import encode_workbook, review_rows
from stage_a_pipeline.demo.tree_plan import PlannedGroup, plan_tree
from stage_a_pipeline.demo.unseen import demo_missions, unseen_among, unseen_missions_file
from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.input_root import TRUTH_NAME
from stage_a_pipeline.missions import Mission
from stage_a_pipeline.storage import atomic_write, ensure_folder, output_errors

WORKBOOK_NAME: Final = "reviews.xlsx"
MISSIONS_NAME: Final = "missions.toml"
LISTING_NAME: Final = ".demo_tree.json"
"""Lists the files that a tree consists of: only a folder that holds it, and nothing else, is overwritten."""


@dataclass(frozen=True, slots=True)
class DemoTree:
    """A tree that was written, and what it holds. `groups` counts group folders of all missions.

    `unseen` are those of its missions that discovery knows only from the tree's missions file.
    """

    root: Path
    missions: tuple[str, ...]
    groups: int
    photos: int
    irrelevant: int
    broken: int
    resubmitted: int
    mislabelled: int
    unseen: tuple[str, ...]

    @property
    def workbook(self) -> Path:
        return self.root / WORKBOOK_NAME

    @property
    def truth(self) -> Path:
        return self.root / TRUTH_NAME

    @property
    def missions_file(self) -> Path | None:
        """What `discovery.missions_file` must name for this tree; None where nothing has to be set."""
        return self.root / MISSIONS_NAME if self.unseen else None

    def sentence(self) -> str:
        """The tree in one line, for a terminal."""
        told = (
            f"{self.photos} photos in {self.groups} groups of {len(self.missions)} missions in {self.root} "
            f"({self.irrelevant} irrelevant, {self.broken} broken, {self.resubmitted} tickets resubmitted, "
            f"{self.mislabelled} groups mislabelled); "
            f"reviews in {WORKBOOK_NAME}, truth in {TRUTH_NAME}"
        )
        if self.missions_file is None:
            return told
        return (
            f"{told}; to discover {' and '.join(self.unseen)}, "
            f"set discovery.missions_file (STAGE_A_MISSIONS) to {self.missions_file.absolute()}"
        )


def write_demo_tree(
    root: Path,
    *,
    missions: Sequence[str],
    groups: int,
    seed: int,
    broken: int = 0,
    label_noise: float = 0.0,
    workers: int = 2,
) -> DemoTree:
    """Write `groups` groups for each of `missions` (names or aliases) below `root`.

    `label_noise` is the share of groups that lie under the wrong label, 0 to 1.

    The same arguments write the same bytes, whatever the number of `workers` (threads). A former demo
    tree in `root` is replaced. Raises ConfigurationError for an unknown mission, a count out of range,
    or a folder that holds anything else, and OutputError where it cannot be written.
    """
    chosen = _known_missions(missions)
    _require(groups >= 1, f"groups must be at least 1, not {groups}")
    _require(broken >= 0, f"broken must be at least 0, not {broken}")
    _require(0 <= label_noise <= 1, f"label noise must be a share from 0 to 1, not {label_noise}")
    _require(workers >= 1, f"workers must be at least 1, not {workers}")
    plan = plan_tree(chosen, groups=groups, seed=seed, broken=broken, label_noise=label_noise)
    unseen = unseen_among(chosen)
    _clear_former_tree(root)
    files = [f"{group.folder}/{name}" for group in plan for name, _ in group.photos]
    # First of all, so that a tree whose writing was interrupted can be replaced too.
    _write_listing(root, [*files, WORKBOOK_NAME, TRUTH_NAME, *([MISSIONS_NAME] if unseen else [])])
    for group in plan:
        ensure_folder(root / group.folder)
    photos = [photo for group in plan for _, photo in group.photos]
    with ThreadPoolExecutor(workers) as pool:
        # Consuming the results raises what a worker raised.
        list(pool.map(_write_photo, [root / name for name in files], photos))
    with atomic_write(root / WORKBOOK_NAME, "wb") as file:
        file.write(encode_workbook(review_rows(plan, seed=seed)))
    with atomic_write(root / TRUTH_NAME) as text:
        text.writelines(_truth_lines(plan))
    if unseen:
        with atomic_write(root / MISSIONS_NAME, "wb") as file:
            file.write(unseen_missions_file().read_bytes())
    return DemoTree(
        root=root,
        missions=tuple(mission.name for mission in chosen),
        groups=len(plan),
        photos=len(photos),
        irrelevant=sum(photo.scene.irrelevant is not None for photo in photos),
        broken=sum(photo.damage is not None for photo in photos),
        resubmitted=sum(group.resubmitted for group in plan) // 2,
        mislabelled=sum(group.mislabelled for group in plan),
        unseen=unseen,
    )


def _known_missions(names: Sequence[str]) -> list[Mission]:
    _require(len(names) > 0, "at least one mission is needed")
    table = demo_missions()
    return list({mission.name: mission for mission in map(table.require, names)}.values())


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ConfigurationError(f"demo tree: {otherwise}")


def _write_photo(path: Path, photo: Photo) -> None:
    data = encode_photo(photo)
    with output_errors(path):
        path.write_bytes(data)


def _truth_lines(plan: Sequence[PlannedGroup]) -> Iterator[str]:
    """One JSON line per photo, in the tree's order; a broken photo has no summary.

    `label` is the folder's, `verdict` what the mission's rule says of the group.
    """
    for group in plan:
        for name, photo in group.photos:
            line = {
                "mission": group.mission.name,
                "label": group.label,
                "verdict": group.verdict.label,
                "group_id": group.ticket.group_id,
                "image": name,
                "path": f"{group.folder}/{name}",
                "summary": photo.scene.summary if photo.damage is None else None,
                "broken": photo.damage,
            }
            yield json.dumps(line, ensure_ascii=False) + "\n"


def _write_listing(root: Path, files: Sequence[str]) -> None:
    listing = {"written_by": "stage-a demo tree", "files": sorted(files)}
    with atomic_write(root / LISTING_NAME) as file:
        json.dump(listing, file, ensure_ascii=False, indent=0)
        file.write("\n")


def _clear_former_tree(root: Path) -> None:
    """Leave `root` an empty folder; refuses to touch anything that no demo tree wrote."""
    ensure_folder(root)
    listed = {LISTING_NAME, *_read_listing(root / LISTING_NAME)}
    present = [path for path in root.rglob("*") if path.is_symlink() or not path.is_dir()]
    foreign = sorted(name for path in present if (name := path.relative_to(root).as_posix()) not in listed)
    if foreign:
        raise ConfigurationError(
            f"folder {root} holds files that are not from a demo tree, such as {foreign[0]}; "
            "choose an empty or new folder, or move them away"
        )
    with output_errors(root):
        for path in present:
            path.unlink()
        for folder in sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True):
            folder.rmdir()


def _read_listing(path: Path) -> list[str]:
    try:
        document = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{path} cannot be read ({error}); delete the folder or choose another"
        ) from error
    files = document.get("files") if isinstance(document, dict) else None
    return [str(name) for name in files] if isinstance(files, list) else []
