"""The delivered files: what is written, what is refused, and what a reader is told."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from stage_a_pipeline.errors import InputError, OutputError, RecordError
from stage_a_pipeline.jsonl import (
    GroupCounts,
    Manifest,
    PhotoCounts,
    output_paths,
    publish,
    read_manifest,
    read_records,
    validate_file,
    write_manifest,
    write_records,
    write_rejections,
)
from stage_a_pipeline.records import Group, GroupRecord, Image, ImageRef, Rejection

MISSION = "BBU安装方式检查（正装）"
SUMMARY = '{"统计": [{"类别": "标签", "文本": {"A\\u2028B": 1}}]}'
PASS = GroupRecord("QC-20240101-1", MISSION, "pass", ("1.jpg", "2.jpg"), (SUMMARY, "无关图片"))
FAIL = GroupRecord("QC-20240101-2", MISSION, "fail", ("a.jpg",), ("螺丝松动",), ("松动", "缺失"))
UNKNOWN = replace(FAIL, group_id="QC-20240101-3", fail_reasons=())

PASS_LINE = (
    '{"group_id": "QC-20240101-1", "mission": "BBU安装方式检查（正装）", "label": "pass", '
    '"images": ["1.jpg", "2.jpg"], "per_image": {"image_1": "'
    + SUMMARY.replace("\\", "\\\\").replace('"', '\\"')
    + '", "image_2": "无关图片"}}\n'
)


def line(**changes: object) -> bytes:
    """A valid line with some keys replaced; a key set to None is left out."""
    mapping = PASS.to_mapping() | changes
    return (json.dumps({key: value for key, value in mapping.items() if value is not None}) + "\n").encode()


def rejection(group: int = 0, image: int = 1, **changes: object) -> Rejection:
    group_of = Group(
        MISSION,
        "fail",
        f"QC-{group}",
        Path("/x"),
        (Image(Path("/x"), "1.jpg"), Image(Path("/x"), "2.jpg")),
    )
    return replace(
        Rejection(ImageRef(group, image, group_of), "read", "truncated", "QC-0/1.jpg: 坏了"), **changes
    )  # fmt: skip


def manifest(**changes: object) -> Manifest:
    return replace(
        Manifest(
            mission=MISSION,
            counts=GroupCounts(discovered=5, sampled_out=1, written=3, rejected=1),
            photos=PhotoCounts(sampled=6, summarised=5, rejected=1, written=4),
            fingerprint="f" * 64,
            prompt_hash="p" * 64,
            settings={"engine": {"batch_size": 32, "checkpoint": "内置"}, "devices": ["cpu"]},
            versions={"torch": "2.13.0", "stage-a-pipeline": "0.1.0"},
        ),
        **changes,
    )


TWICE = "line 2: ticket QC-20240101-1::pass stands on line 1 already; Stage-B keeps one"
RECORDS = (FAIL, UNKNOWN, PASS)
REJECTIONS = (rejection(),)


class TestWriteRecords:
    def test_bytes_are_canonical(self, tmp_path: Path) -> None:
        digest = write_records(tmp_path / "out.jsonl", [PASS])
        data = (tmp_path / "out.jsonl").read_bytes()
        assert data == PASS_LINE.encode()
        assert (digest.sha256, digest.size, digest.lines) == (hashlib.sha256(data).hexdigest(), len(data), 1)

    def test_only_fail_records_carry_the_reason_keys(self, tmp_path: Path) -> None:
        write_records(tmp_path / "out.jsonl", RECORDS)
        known, unknown, passed = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
        assert (known["gt_fail_reason_texts"], known["gt_fail_reason_text"]) == (
            ["松动", "缺失"],
            "松动 | 缺失",
        )
        assert (unknown["gt_fail_reason_texts"], unknown["gt_fail_reason_text"]) == ([], None)
        assert not [key for key in passed if key.startswith("gt_")]

    def test_what_was_written_is_read_back(self, tmp_path: Path) -> None:
        write_records(tmp_path / "out.jsonl", RECORDS)
        assert tuple(read_records(tmp_path / "out.jsonl")) == RECORDS
        validation = validate_file(tmp_path / "out.jsonl")
        assert (validation.lines, validation.error_count, validation.warnings) == (3, 0, ())

    @pytest.mark.parametrize(
        ("record", "field"),
        [
            (replace(PASS, group_id=" "), "group_id"),
            (replace(PASS, mission=""), "mission"),
            (replace(PASS, label="通过"), "label"),
            (replace(PASS, images=()), "images"),
            (replace(PASS, images=("1.jpg",)), "per_image.image_2"),
            (replace(PASS, images=("1.jpg", "\udcff.jpg")), "images[1]"),
            (replace(PASS, summaries=("a\u2028b", "c")), "per_image.image_1"),
            (replace(PASS, summaries=("a", "\n")), "per_image.image_2"),
            (replace(PASS, summaries=("a", "\ud800")), "per_image.image_2"),
            (replace(PASS, fail_reasons=()), "gt_fail_reason_texts"),
        ],
    )
    def test_a_bad_record_is_refused_with_its_field_and_the_old_file_stays(
        self, tmp_path: Path, record: GroupRecord, field: str
    ) -> None:
        path = tmp_path / "out.jsonl"
        path.write_text("old")
        with pytest.raises(RecordError) as caught:
            write_records(path, [FAIL, record])
        assert (caught.value.field, caught.value.line) == (field, 2)
        assert str(path) in str(caught.value)
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_missing_folder_is_an_output_error(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="create the folder"):
            write_records(tmp_path / "no" / "out.jsonl", RECORDS)


BROKEN = [
    (b'{"group_id": \n', "record", "not valid JSON: Expecting value at character"),
    (b"\n", "record", "blank line"),
    (b" \t\n", "record", "blank line"),
    (b"\xef\xbb\xbf" + line(), "record", "byte-order mark"),
    (line()[:-1] + b"\r\n", "record", "CR LF"),
    (line()[:-1] + b" x\n", "record", "Extra data"),
    (line()[:-1] + line(), "record", "Extra data"),
    (b'{"group_id": "\xff"}\n', "record", "not UTF-8 from byte 15"),
    (b'{"label": "pass", "label": "fail"}\n', "label", "twice"),
    (b'{"per_image": {"image_1": "a", "image_1": "b"}}\n', "image_1", "twice"),
    (b"[" * 100_000 + b"\n", "record", "nested too deeply"),
    (b'{"a": ' + b"1" * 10_000 + b"}\n", "record", "a number too long"),
    (b"[]\n", "record", "must be a JSON object"),
    (b"null\n", "record", "must be a JSON object"),
    (line(mission=None), "mission", "is missing"),
    (line(label="通过"), "label", "must be one of pass, fail"),
    (line(group_id=1), "group_id", "must be text"),
    (line(images=[]), "images", "at least one"),
    (line(images=["1.jpg", " "]), "images[1]", "blank"),
    (line(images=["1.jpg", "\udcff.jpg"]), "images[1]", "surrogate"),
    (line(per_image={"image_1": "a"}), "per_image.image_2", "is missing"),
    (line(per_image={"image_2": "a", "image_1": "b"}), "per_image", "in order"),
    (line(per_image={"image_1": "a", "image_2": "b", "image_3": "c"}), "per_image.image_3", "not expected"),
    (line(per_image={"image_1": "a", "image_2": "b\nc"}), "per_image.image_2", "single line"),
    (line(gt_fail_reason_texts=[]), "gt_fail_reason_texts", "fail records only"),
    (line(extra=1), "extra", "not a known key"),
]


class TestReading:
    @pytest.mark.parametrize(("bad", "field", "problem"), BROKEN)
    def test_a_broken_line_is_named_with_line_and_field(
        self, tmp_path: Path, bad: bytes, field: str, problem: str
    ) -> None:
        path = tmp_path / "in.jsonl"
        path.write_bytes(line() + bad + line(group_id="QC-3"))
        records = read_records(path)
        assert next(records) == PASS
        with pytest.raises(RecordError) as caught:
            next(records)
        assert (caught.value.field, caught.value.line) == (field, 2)
        assert problem in str(caught.value)
        assert f"{path}, line 2: " in str(caught.value)

        validation = validate_file(path)
        assert (validation.lines, validation.error_count) == (3, 1)
        assert str(validation.errors[0]).startswith(f"line 2: {field}: ")

    def test_reading_is_lazy(self, tmp_path: Path) -> None:
        path = tmp_path / "in.jsonl"
        path.write_bytes(line() + b"broken\n")
        assert next(read_records(path)) == PASS

    @pytest.mark.parametrize("name", ["missing.jsonl", ""])
    def test_a_file_that_cannot_be_read_is_an_input_error(self, tmp_path: Path, name: str) -> None:
        for read in (lambda path: list(read_records(path)), validate_file):
            with pytest.raises(InputError, match=r"cannot be read: .*; give the path"):
                read(tmp_path / name)

    def test_all_errors_are_counted_and_a_hundred_listed(self, tmp_path: Path) -> None:
        path = tmp_path / "in.jsonl"
        path.write_bytes(b"\n" * 250 + line())
        validation = validate_file(path)
        assert (validation.lines, validation.error_count, len(validation.errors)) == (251, 250, 100)

    @pytest.mark.parametrize(
        ("data", "warnings"),
        [
            (b"", ["the file has no lines"]),
            (PASS_LINE.encode() * 2, [TWICE]),
            (PASS_LINE.encode()[:-1], ["line 1: the last line has no line end; the file may have been cut"]),
            (line(), ["line 1: not in canonical form (order of keys, separators or escapes)"]),
            (
                PASS_LINE.encode() + PASS_LINE.replace(MISSION, "RRU线缆").replace("-1", "-7").encode(),
                [f"line 2: mission RRU线缆 in a file of mission {MISSION}"],
            ),
        ],
    )  # fmt: skip
    def test_what_deserves_a_look_is_a_warning_and_no_error(
        self, tmp_path: Path, data: bytes, warnings: list[str]
    ) -> None:
        path = tmp_path / "in.jsonl"
        path.write_bytes(data)
        validation = validate_file(path)
        assert list(validation.warnings) == warnings
        assert validation.errors == ()

    def test_a_resubmission_has_one_id_under_both_labels_without_a_warning(self, tmp_path: Path) -> None:
        write_records(tmp_path / "in.jsonl", [PASS, replace(PASS, label="fail")])
        assert validate_file(tmp_path / "in.jsonl").warnings == ()

    def test_a_record_error_with_its_file_survives_a_process_boundary(self) -> None:
        error = pickle.loads(pickle.dumps(RecordError("images", "is missing").at_line(3, source="x")))  # noqa: S301
        assert str(error) == "x, line 3: images: is missing"
        assert (error.field, error.line, error.source) == ("images", 3, "x")


class TestRejections:
    def test_one_line_per_photo_with_fixed_keys(self, tmp_path: Path) -> None:
        path = tmp_path / "r.jsonl"
        digest = write_rejections(path, [rejection(2, 1), rejection(2, 2), rejection(10)])
        lines = [json.loads(text) for text in path.read_text("utf-8").splitlines()]
        assert [(one["group_id"], one["image_index"]) for one in lines] == [
            ("QC-2", 1),
            ("QC-2", 2),
            ("QC-10", 1),
        ]
        assert list(lines[1].items()) == [
            ("mission", MISSION),
            ("group_id", "QC-2"),
            ("label", "fail"),
            ("image", "2.jpg"),
            ("image_index", 2),
            ("stage", "read"),
            ("reason", "truncated"),
            ("detail", "QC-0/1.jpg: 坏了"),
            ("raw_text", None),
        ]
        assert digest.lines == 3
        assert digest.size == path.stat().st_size

    def test_no_rejection_leaves_an_empty_file(self, tmp_path: Path) -> None:
        assert write_rejections(tmp_path / "r.jsonl", []).lines == 0
        assert (tmp_path / "r.jsonl").read_bytes() == b""

    @pytest.mark.parametrize("raw", ["\ud800x", "a\nb\u2028c", "\x00", '"\\', "😀", ""])
    def test_any_raw_text_is_one_line_and_comes_back(self, tmp_path: Path, raw: str) -> None:
        write_rejections(tmp_path / "r.jsonl", [rejection(raw_text=raw, detail=raw)])
        (text,) = (tmp_path / "r.jsonl").read_bytes().splitlines()
        assert json.loads(text)["raw_text"] == raw


class TestPaths:
    def test_names_are_those_of_the_contract(self, tmp_path: Path) -> None:
        paths = output_paths(tmp_path, MISSION)
        names = [path.name for path in (paths.jsonl, paths.rejected, paths.manifest)]
        assert names == [f"{MISSION}_stage_a{end}" for end in (".jsonl", ".rejected.jsonl", ".manifest.json")]

    @pytest.mark.parametrize("mission", ["../x", "a/b", "/etc/x", "a\\b"])
    def test_a_mission_never_leads_out_of_the_folder(self, tmp_path: Path, mission: str) -> None:
        with pytest.raises(OutputError, match="cannot be a file name"):
            output_paths(tmp_path, mission)


class TestManifest:
    def test_it_is_read_back_and_same_inputs_give_same_bytes(self, tmp_path: Path) -> None:
        write_manifest(tmp_path / "a", manifest())
        write_manifest(tmp_path / "b", manifest(settings=dict(reversed(manifest().settings.items()))))
        assert read_manifest(tmp_path / "a") == manifest()
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
        assert "内置" in (tmp_path / "a").read_text("utf-8")

    def test_counts_that_do_not_add_up_are_an_invariant_broken(self) -> None:
        with pytest.raises(AssertionError, match="do not add up"):
            GroupCounts(discovered=5, sampled_out=1, written=3, rejected=2)
        with pytest.raises(AssertionError, match="do not add up"):
            PhotoCounts(sampled=3, summarised=3, rejected=1, written=1)
        with pytest.raises(AssertionError, match="more written"):
            PhotoCounts(sampled=3, summarised=2, rejected=1, written=3)

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"[]", b"{}", b'{"counts": {}}', b'{"counts": {"discovered": 1}}', b"\xff"]
    )
    def test_what_is_no_manifest_is_an_input_error(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "m").write_bytes(content)
        with pytest.raises(InputError, match=r"m is not a manifest .*; run the mission again"):
            read_manifest(tmp_path / "m")

    def test_a_manifest_whose_counts_do_not_add_up_is_an_input_error(self, tmp_path: Path) -> None:
        write_manifest(tmp_path / "m", manifest())
        fields = json.loads((tmp_path / "m").read_bytes())
        fields["counts"]["written"] += 1
        (tmp_path / "m").write_text(json.dumps(fields))
        with pytest.raises(InputError, match="do not add up"):
            read_manifest(tmp_path / "m")

    def test_a_missing_manifest_is_an_input_error(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="No such file"):
            read_manifest(tmp_path / "m")


class TestPublish:
    def test_the_manifest_describes_the_files_beside_it(self, tmp_path: Path) -> None:
        paths = output_paths(tmp_path / "new" / "output", MISSION)
        published = publish(paths, RECORDS, REJECTIONS, manifest())
        assert published.changed == (paths.rejected, paths.jsonl, paths.manifest)
        assert sorted(paths.jsonl.parent.iterdir()) == sorted(published.changed)
        on_disk = read_manifest(paths.manifest)
        assert on_disk == published.manifest
        for path, lines in ((paths.jsonl, 3), (paths.rejected, 1)):
            data = path.read_bytes()
            assert asdict(on_disk.files[path.name]) == {
                "sha256": hashlib.sha256(data).hexdigest(),
                "size": len(data),
                "lines": lines,
            }

    def test_publishing_the_same_again_touches_no_file(self, tmp_path: Path) -> None:
        paths = output_paths(tmp_path, MISSION)
        publish(paths, RECORDS, REJECTIONS, manifest())
        before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
        assert publish(paths, iter(RECORDS), iter(REJECTIONS), manifest()).changed == ()
        assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in tmp_path.iterdir()} == before

    def test_only_what_changed_is_replaced(self, tmp_path: Path) -> None:
        paths = output_paths(tmp_path, MISSION)
        publish(paths, RECORDS, REJECTIONS, manifest())
        assert publish(paths, RECORDS, REJECTIONS, manifest(fingerprint="0")).changed == (paths.manifest,)

    def test_a_bad_record_leaves_all_three_as_they_were(self, tmp_path: Path) -> None:
        paths = output_paths(tmp_path, MISSION)
        publish(paths, RECORDS, REJECTIONS, manifest())
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(RecordError):
            publish(paths, [*RECORDS[:2], replace(PASS, images=())], [rejection(reason="x")], manifest())
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_counts_that_disagree_with_the_lines_are_an_invariant_broken(self, tmp_path: Path) -> None:
        with pytest.raises(AssertionError, match="lines of records and rejections"):
            publish(output_paths(tmp_path, MISSION), RECORDS[:2], REJECTIONS, manifest())
        assert list(tmp_path.iterdir()) == []

    def test_after_a_kill_between_the_renames_publishing_again_mends_it(self, tmp_path: Path) -> None:
        script = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from stage_a_pipeline.storage import StagedFile
from tests.test_jsonl import MISSION, RECORDS, REJECTIONS, manifest, output_paths, publish
commit = StagedFile.commit
def die_before_the_manifest(self):
    if self.path.name.endswith("manifest.json"):
        os.kill(os.getpid(), signal.SIGKILL)
    commit(self)
StagedFile.commit = die_before_the_manifest
publish(output_paths(Path(sys.argv[1]), MISSION), RECORDS, REJECTIONS, manifest())
"""
        paths = output_paths(tmp_path, MISSION)
        publish(paths, [FAIL, UNKNOWN, replace(PASS, group_id="old")], [], manifest(
            counts=GroupCounts(4, 1, 3, 0), photos=PhotoCounts(5, 5, 0, 4)))  # fmt: skip
        root = str(Path(__file__).parent.parent)
        assert (
            subprocess.run([sys.executable, "-c", script, str(tmp_path), root], check=False).returncode == -9
        )
        old = read_manifest(paths.manifest).files[paths.jsonl.name]
        assert old.sha256 != hashlib.sha256(paths.jsonl.read_bytes()).hexdigest()
        assert publish(paths, RECORDS, REJECTIONS, manifest()).changed == (paths.manifest,)
