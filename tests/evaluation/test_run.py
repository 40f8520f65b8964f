"""An evaluation over a tree with the fake engine: who is asked, what is remembered, what is told."""

from __future__ import annotations

import json

import pytest

from stage_a_pipeline.cleaning import clean_summary
from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.errors import ConfigurationError, DiscoveryError, InputError, LockedError
from stage_a_pipeline.evaluation.asked import Audience
from stage_a_pipeline.evaluation.form import summary_defect
from stage_a_pipeline.evaluation.run import evaluate_tree
from stage_a_pipeline.inference.journal import count_answers
from stage_a_pipeline.settings import load_settings
from stage_a_pipeline.storage import claim_output
from tests.conftest import BRACKETS, MISSION, write_groups
from tests.evaluation.conftest import NOTHING, wire


class Told:
    """An audience that remembers."""

    def __init__(self):
        self.notices: list[str] = []
        self.bars: dict[str, int] = {}

    def audience(self):
        def bar(name, counted):
            def tell(progress):
                self.bars[f"{name}: {counted}"] = progress.total

            return tell

        return Audience(self.notices.append, bar)


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def root(tmp_path):
    write_groups(tmp_path / "in", MISSION, {"fail": [3, 1], "pass": [2]})
    return write_groups(tmp_path / "in", BRACKETS, {"pass": [2]}, first_seed=50)


@pytest.fixture
def evaluate(tmp_path, root, told):
    def run(*names, verdicts=False, **sections):
        chosen = {
            "discovery": {"input_root": sections.pop("root", root)},
            "engine": {"engine": "fake", "batch_size": 4, **sections.pop("engine", {})},
            "inference": {"lease_dir": tmp_path / "leases", **sections.pop("inference", {})},
            "output": {"output_dir": tmp_path / "out"},
            **sections,
        }
        settings = load_settings(environ={}, overrides=chosen)
        return evaluate_tree(settings, names, told.audience(), verdicts=verdicts)

    return run


def write_truth(root, summaries=(), *, default=NOTHING, path=None):
    """A line for every photo; `summaries` by place in discovery order."""
    lines = []
    for group in discover_groups(root).groups:
        for image in group.images:
            name = image.path.relative_to(root).as_posix()
            lines.append({"path": name, "summary": dict(summaries).get(len(lines), default)})
    path = path or root / "truth.jsonl"
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
    return [line["path"] for line in lines]


def remembered(tmp_path, mission=MISSION):
    return count_answers(tmp_path / "out" / "work" / "journal" / mission)


def test_every_photo_with_a_true_summary_is_read_once(tmp_path, root, evaluate, told):
    write_truth(root, {0: None, 3: wire(整齐=1)})
    found = evaluate()
    # Missions come by name: the first photo is one of the brackets.
    assert {name: scores.photos for name, scores in found.per_mission.items()} == {BRACKETS: 1, MISSION: 6}
    assert found.scores.photos == 7
    assert found.unmatched.photos_without_true_summary == 1
    assert remembered(tmp_path) == 6
    assert told.bars == {"2 missions on cpu: photos": 7}
    assert told.notices == []
    assert set(found.subject.fingerprints) == {BRACKETS, MISSION}
    assert (found.subject.checkpoint, found.subject.root) == ("engine fake", root)


def test_the_engine_s_own_answers_as_truth_are_all_right(root, evaluate, tmp_path):
    write_truth(root)
    evaluate(MISSION)
    journal = tmp_path / "out" / "work" / "journal" / MISSION / "cpu.jsonl"
    answers = [json.loads(line) for line in journal.read_text("utf-8").splitlines()]
    places = {line["photo"].partition("#")[2]: clean_summary(line["text"]).text for line in answers}
    groups = discover_groups(root, MISSION).groups
    lines = [
        {"path": image.path.relative_to(root).as_posix(), "summary": places[f"{index}.{number}"]}
        for index, group in enumerate(groups)
        for number, image in enumerate(group.images, start=1)
    ]
    # The fake engine names categories of both datasets: only some answers can be a truth of this mission.
    kept = [line for line in lines if summary_defect(line["summary"], "bbu") is None]
    truth = tmp_path / "truth.jsonl"
    truth.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept), "utf-8")
    scores = evaluate(MISSION, evaluation={"truth": truth}).scores
    assert scores.photos == len(kept) > 1
    assert (scores.exact_match, scores.attribute_recall, scores.attribute_precision) == (1.0, 1.0, 1.0)


def test_a_second_evaluation_asks_nothing(tmp_path, root, evaluate):
    write_truth(root)
    faults = tmp_path / "faults.toml"
    faults.write_text("")
    first = evaluate(engine={"fake_faults": faults})
    faults.write_text('[[fault]]\nkind = "error"\nmatch = "*"')
    assert evaluate(engine={"fake_faults": faults}).to_mapping() == first.to_mapping()


@pytest.mark.parametrize("sharding", ["per_group", "per_image"])
def test_devices_never_change_the_evaluation(root, evaluate, tmp_path, sharding):
    write_truth(root, {4: wire(整齐=1), 5: None})
    one = evaluate().to_mapping()
    (tmp_path / "out").rename(tmp_path / "first")
    devices = {"devices": ["cpu", "cpu", "cpu"]}
    assert evaluate(engine=devices, inference={"sharding_mode": sharding}).to_mapping() == one


def test_a_damaged_photo_with_a_truth_is_rejected_and_counts_as_wrong(root, evaluate, told):
    paths = write_truth(root)
    (root / paths[-1]).write_bytes(b"")
    found = evaluate(MISSION)
    assert found.scores.photos == 6
    assert found.rejected == {paths[-1]: "read: empty"}
    assert found.rejected_reasons == {"read: empty": 1}
    assert any(sentence.startswith("photo rejected (empty)") for sentence in told.notices)


def test_every_photo_rejected_is_still_an_evaluation(root, evaluate):
    paths = write_truth(root)
    for path in paths:
        (root / path).write_bytes(b"")
    scores = evaluate().scores
    assert (scores.valid, scores.irrelevant_recall, scores.irrelevant_precision) == (0.0, 0.0, None)


def test_missions_without_a_truth_are_told_and_not_asked(tmp_path, root, evaluate):
    write_truth(root)
    truth = root / "truth.jsonl"
    lines = [line for line in truth.read_text("utf-8").splitlines(keepends=True) if MISSION in line]
    truth.write_text("".join(lines), "utf-8")
    found = evaluate()
    assert found.per_mission[BRACKETS].photos == 0
    assert found.unmatched.photos_without_truth_line == 2
    assert not (tmp_path / "out" / "work" / "journal" / BRACKETS).exists()


def test_a_sample_does_not_apply_and_this_is_said(root, evaluate, told):
    write_truth(root)
    assert evaluate(sampling={"pass_count": 0}).scores.photos == 8
    assert told.notices == ["sampling does not apply: every photo with a true summary is evaluated"]


def test_a_checkpoint_that_the_fake_engine_does_not_load_is_told(root, evaluate, told):
    write_truth(root)
    evaluate(engine={"checkpoint": "elsewhere"})
    assert told.notices == [
        "checkpoint elsewhere does not apply: engine 'fake' has no model; set engine.engine"
    ]


def test_what_is_skipped_in_the_tree_is_told(root, evaluate, told):
    write_truth(root)
    (root / "unknown" / "x").mkdir(parents=True)
    evaluate()
    assert any("unknown_mission" in sentence for sentence in told.notices)


def test_the_missions_own_folder_as_root_stands_for_its_parent(root, evaluate):
    write_truth(root)
    assert evaluate(MISSION, root=root / MISSION).scores.photos == 6


def test_errors_come_before_any_photo_is_asked(tmp_path, root, evaluate):
    with pytest.raises(InputError, match=r"truth sidecar .*in/truth\.jsonl cannot be read"):
        evaluate()
    write_truth(root)
    with pytest.raises(InputError, match=r"nowhere\.jsonl cannot be read"):
        evaluate(evaluation={"truth": tmp_path / "nowhere.jsonl"})
    with pytest.raises(ConfigurationError, match="unknown mission '不存在'"):
        evaluate("不存在")
    with pytest.raises(DiscoveryError, match="has no folder 'RRU线缆'"):
        evaluate("RRU线缆")
    with pytest.raises(ConfigurationError, match="leave out --verdicts"):
        evaluate(verdicts=True)
    (root / "truth.jsonl").write_text('{"path": "x/y/z/a.jpg", "summary": "无关图片"}\n', "utf-8")
    with pytest.raises(InputError, match=r"photos without a line .*: 8; truth lines of other missions: 1"):
        evaluate()
    assert not (tmp_path / "out").exists()


def test_a_run_that_holds_the_mission_s_output_is_named(tmp_path, root, evaluate):
    write_truth(root)
    locks = tmp_path / "out" / "work" / "locks"
    with (
        claim_output(locks, MISSION, run_id="a-run", purpose="test"),
        pytest.raises(LockedError, match="a-run"),
    ):
        evaluate(MISSION)
