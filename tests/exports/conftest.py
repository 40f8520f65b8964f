"""Delivered missions, with names and summaries as hostile as the data contract lets them be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from stage_a_pipeline.cli import main
from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.jsonl import GroupCounts, Manifest, PhotoCounts, output_paths, publish
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.places import Place
from stage_a_pipeline.records import Group, GroupRecord, ImageRef, Rejection
from stage_a_pipeline.settings import Settings, load_settings
from tests.conftest import LABEL_FOLDERS, MISSION, write_photo

RRU = "RRU线缆"
ODD = "a'b & [x](y) {z} # - `w` é"
"""A mission's name with all that is allowed in one and means something to YAML, Markdown or `format`."""

STATISTICS = (
    '{"统计": [{"类别": "BBU设备", "品牌": {"华为": 2, "中兴": 1}}, '
    '{"类别": "标签", "文本": {"5G<script>": 1}}], '
    '"备注": ["无法判断"], "分组统计": {"1": {"标签": 1}}}'
)
SCRIPT = "<script>alert('1')</script>\"; DROP TABLE photos; --"
HOSTILE = (
    "a'b\".jpg",
    "a..b.jpg",
    "%2e%2e%2f.jpg",
    "c?d&e#f.jpg",
    "<img src=x onerror=alert(1)>.jpg",
    "line\nbreak.jpg",
    "=1+1.jpg",
)


@dataclass
class Workplace:
    """An input root, and an output folder to deliver to."""

    base: Path
    missions_file: Path | None = None
    output: Place | None = None
    overrides: dict[str, dict[str, object]] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.base / "photos"

    @property
    def settings(self) -> Settings:
        discovery = {"input_root": str(self.root)}
        if self.missions_file is not None:
            discovery["missions_file"] = str(self.missions_file)
        output = {"output_dir": str(self.output or self.base / "out")}
        given = {"discovery": discovery, "output": output}
        return load_settings(
            environ={},
            overrides={name: values | self.overrides.get(name, {}) for name, values in given.items()},
        )

    @property
    def settings_file(self) -> Path:
        path = self.base / "settings.toml"
        discovery, output = self.settings.discovery, self.settings.output
        lines = ["[discovery]", f"input_root = {json.dumps(str(discovery.input_root))}"]
        if discovery.missions_file is not None:
            lines.append(f"missions_file = {json.dumps(str(discovery.missions_file))}")
        lines += ["[output]", f"output_dir = {json.dumps(str(output.output_dir))}"]
        path.write_text("\n".join(lines), "utf-8")
        return path

    def add_group(
        self, mission: str, label: str, folder: str, names: Sequence[str], *, seed: int = 0
    ) -> Path:
        place = self.root / mission / LABEL_FOLDERS[label] / folder
        for number, name in enumerate(names):
            write_photo(place / name, seed=seed + number)
        return place

    def groups(self, mission: str) -> tuple[Group, ...]:
        settings = self.settings
        table = load_missions(settings.discovery.missions_file)
        return discover_groups(self.root, mission, missions=table).groups

    def deliver(
        self,
        mission: str,
        summaries: Sequence[str] = ("无关图片",),
        *,
        rejected: Sequence[str] = (),
        sampled_out: Sequence[str] = (),
        reasons: tuple[str, ...] | None = None,
    ) -> None:
        """Publish all groups of the tree, summaries in turn; groups of folders in `rejected` lose a photo."""
        records, rejections, photos, count = [], [], 0, 0
        groups = self.groups(mission)
        for index, group in enumerate(groups):
            if group.folder.name in sampled_out:
                continue
            photos += len(group.images)
            if group.folder.name in rejected:
                rejections.append(Rejection(ImageRef(index, 1, group), "read", "truncated", "ends early"))
                continue
            texts = tuple(summaries[(count + i) % len(summaries)] for i in range(len(group.images)))
            count += len(group.images)
            names = tuple(image.name for image in group.images)
            known = reasons if group.label == "fail" else None
            records.append(GroupRecord(group.group_id, mission, group.label, names, texts, known))
        out = len(sampled_out)
        manifest = Manifest(
            mission=mission,
            counts=GroupCounts(len(groups), out, len(records), len(rejections)),
            photos=PhotoCounts(photos, photos - len(rejections), len(rejections), count),
            fingerprint="f" * 64,
            prompt_hash="p" * 64,
            settings={"engine": {"checkpoint": "/models/站 4b"}},
            versions={},
        )
        publish(output_paths(self.settings.output.output_dir, mission), records, rejections, manifest)

    def export(self, *words: str, to: Path | str = "export") -> Result:
        """Run `stage-a export ...` as a user would."""
        arguments = ["export", *words, "--output", str(self.base / to), "--settings", str(self.settings_file)]
        return CliRunner().invoke(main, arguments, catch_exceptions=False)

    def exported(self, *words: str, to: Path | str = "export") -> Path:
        """The folder that an export has written."""
        done = self.export(*words, to=to)
        assert done.exit_code == 0, done.output
        return self.base / to


def make_workplace(base: Path) -> Workplace:
    """Two missions, one with hostile names; two groups of one id, a rejected photo, fail reasons."""
    missions = base / "missions.toml"
    missions.write_text(
        f'[[mission]]\nname = {json.dumps(ODD, ensure_ascii=False)}\ndataset = "bbu"\nfocus = "看"\n', "utf-8"
    )
    place = Workplace(base, missions)
    place.add_group(ODD, "fail", 'g <b>"&..', HOSTILE)
    place.add_group(ODD, "pass", "QC-BBU-20241028-0000001", ["1.jpg", "2.jpg"], seed=20)
    place.add_group(RRU, "fail", "first", ["QC-RRU-20241028-0000002_1.jpg"], seed=30)
    place.add_group(RRU, "fail", "second", ["QC-RRU-20241028-0000002_1.jpg"], seed=31)
    place.add_group(RRU, "pass", "broken", ["1.jpg", "2.jpg"], seed=40)
    place.deliver(ODD, [STATISTICS, SCRIPT, "无关图片"], reasons=("螺丝 <松动>", "b"))
    place.deliver(RRU, ['{"统计": [{"类别": "尾纤", "标签": {"有标签": 1}}]}'], rejected=["broken"])
    return place


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """What `make_workplace` makes, for tests that change nothing but their own export folders."""
    return make_workplace(tmp_path_factory.mktemp("hostile"))


@pytest.fixture
def plain(tmp_path: Path) -> Workplace:
    """One mission of two groups with three photos, delivered."""
    place = Workplace(tmp_path)
    place.add_group(MISSION, "fail", "g1", ["1.jpg", "2.jpg"])
    place.add_group(MISSION, "pass", "g2", ["1.jpg"], seed=5)
    place.deliver(MISSION, [STATISTICS])
    return place
