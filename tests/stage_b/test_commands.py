"""`stage-a grpo` as people type it, on one short training: what it shows and writes, and what it refuses."""

from __future__ import annotations

import json
import shutil

import pytest

from stage_a_pipeline.stage_b.rewards import combine_rewards
from stage_a_pipeline.stage_b.run_folder import trained_ids
from stage_a_pipeline.storage import claim_output
from tests.stage_b.conftest import RRU, line, write_lines
from tests.stage_b.trained import STEPS, TICKETS, make_place


@pytest.fixture
def place(tmp_path):
    """The same tickets and settings, and nothing trained."""
    return make_place(tmp_path)


@pytest.fixture
def own(place, trained):
    """A training that has ended, for one test alone."""
    shutil.copytree(trained.stage_b, place.stage_b, symlinks=True)
    return place


def test_train_tells_of_the_tickets_the_blocks_and_where_things_lie(trained):
    told = (trained.folder / "ended").read_text("utf-8")
    assert told.startswith(f"{TICKETS} tickets: 10 to learn from, 2 held out {RRU}: tickets {TICKETS} ")
    assert f"adapter of language blocks 2, 3 (of 4, from 0), after {STEPS} steps" in told
    assert "every weight of the checkpoint is as it was" in told
    assert f"adapter {trained.adapter} metrics {trained.run.metrics}" in told


KEYS = ["group_id", "task_type", "group_label", "generation_index", "response", "rewards"]


@pytest.mark.parametrize("command", [("dry-run",), ("train", "--dry-run")], ids=" ".join)
def test_a_dry_run_writes_rewarded_answers_to_two_tickets_and_trains_nothing(place, command):
    place.configure(grpo={"num_generations": 3, "reward_weights": [1.0, 0.5, 0.25]})
    ended = place.grpo(*command)
    assert ended.code == 0, ended.output
    assert "an adapter would train language blocks 2, 3 (of 4, from 0)" in ended.output
    assert [path.name for path in place.stage_b.iterdir()] == ["completions.jsonl"]
    text = (place.stage_b / "completions.jsonl").read_text("utf-8")
    rows = [json.loads(one) for one in text.splitlines()]
    assert [list(row) for row in rows] == [KEYS] * 6
    assert [row["generation_index"] for row in rows] == [0, 1, 2] * 2
    assert [row["group_label"] for row in rows] == ["通过"] * 3 + ["不通过"] * 3
    assert len({row["group_id"] for row in rows}) == 2
    assert {row["task_type"] for row in rows} == {RRU}
    for row in rows:
        assert list(row["rewards"]) == ["label", "format", "consistency", "combined"]
        *parts, combined = row["rewards"].values()
        assert combine_rewards([[part] for part in parts], (1.0, 0.5, 0.25)) == [pytest.approx(combined)]
    assert len({row["response"] for row in rows}) > 1
    # The seed decides which answers are drawn.
    assert place.grpo(*command).code == 0
    assert (place.stage_b / "completions.jsonl").read_text("utf-8") == text


def test_evaluate_scores_the_tickets_that_the_adapter_has_not_seen(own):
    ended = own.grpo("evaluate")
    assert ended.code == 0, ended.output
    assert "Stage-A with the adapter is not compared: grpo.stage_a_photos is 0" in ended.output
    document = json.loads((own.stage_b / "evaluation.json").read_text("utf-8"))
    assert document["training"]["training"] == own.run.key
    # Not the link, which leads elsewhere after the next training.
    assert document["adapter"] == str(own.run.adapter)
    assert document["training"]["frozen_before"] == document["training"]["frozen_after"]
    assert document["stage_a"] is None
    assert document["verdicts"]["after"]["tickets"] == 2
    pictures = {path.name for path in own.stage_b.glob("*.svg")}
    assert pictures == {f"evaluation.{name}.svg" for name in ("accuracy", "confusion", "rewards")}
    for name in ("evaluation.json", *sorted(pictures)):
        assert str(own.stage_b / name) in ended.output


def test_tickets_of_later_files_judge_an_adapter_too(own):
    later = [line(group_id=f"later-{number}", mission=RRU) for number in range(3)]
    with (own.folder / "tickets.jsonl").open("a") as file:
        file.writelines(one + "\n" for one in later)
    assert own.grpo("evaluate").code == 0
    document = json.loads((own.stage_b / "evaluation.json").read_text("utf-8"))
    assert document["verdicts"]["after"]["tickets"] == 5


def test_a_single_new_ticket_judges_an_adapter(own):
    write_lines(own.folder / "new.jsonl", line(group_id="QC-new", mission=RRU))
    ended = own.grpo("evaluate", "--data", str(own.folder / "new.jsonl"))
    assert ended.code == 0, ended.output
    assert json.loads((own.stage_b / "evaluation.json").read_bytes())["verdicts"]["before"]["tickets"] == 1


def test_files_of_two_evaluations_are_not_mixed(own):
    claim = claim_output(own.stage_b, "evaluation", run_id="another", purpose="test")
    with claim:
        ended = own.grpo("evaluate")
    assert ended.code == 1
    assert "the evaluation of Stage-B is being written by pid" in ended.output
    assert not (own.stage_b / "evaluation.json").exists()


def test_a_prompt_beyond_the_model_s_context_is_refused_with_its_size(place):
    photos = {f"image_{number}": "紧固件合格" for number in range(1, 1001)}
    tickets = place.folder / "tickets.jsonl"
    huge = line(group_id="QC-huge", mission=RRU, images=list(photos), per_image=photos)
    write_lines(tickets, *[huge.replace("QC-huge", f"QC-huge{one}") for one in range(8)])
    for command in ("dry-run", "train"):
        ended = place.grpo(command)
        assert ended.code == 1
        assert "a group of 1000 photos makes a prompt of" in ended.output
        assert "the checkpoint takes 4096" in ended.output
    assert not (place.stage_b / "adapter").exists()


def test_an_adapter_of_another_trainer_is_judged_by_the_held_out_tickets(own):
    foreign = own.folder / "foreign"
    shutil.copytree(own.run.adapter, foreign)
    for name in ("stage_b.json", "trained_on.txt"):
        (foreign / name).unlink()
    ended = own.grpo("evaluate", "--adapter", str(foreign), "--out", str(own.folder / "scores"))
    assert ended.code == 0, ended.output
    assert "does not tell what it was trained on: the held-out tickets of grpo.seed" in ended.output
    document = json.loads((own.folder / "scores" / "evaluation.json").read_text("utf-8"))
    assert document["training"] is None
    assert document["verdicts"]["after"]["tickets"] == 2


BAD_TICKETS = {
    "no lines": ([], "tickets.jsonl: no lines at all; give canonical JSONL"),
    "unknown missions": ([line(mission="没有的")], "of 1 lines: 1 unknown mission; first: "),
    "unknown labels": ([line(label="maybe")], "no ticket can be used, of 1 lines: 1 "),
    "broken lines": (["{", "["], "no ticket can be used, of 2 lines: 2 "),
    "gaps": ([line(per_image={"image_1": "甲", "image_3": "乙"})], "no ticket can be used, of 1 lines: 1 "),
    "one ticket": ([line()], "1 group ids cannot be split so that 0.2 of them are held out"),
}


def assert_refused(place, message, *command):
    before = sorted(place.folder.rglob("*"))
    ended = place.grpo(*command)
    assert ended.code == 1
    assert message in ended.output
    assert ended.output.startswith("Error: ")
    assert "Traceback" not in ended.output
    assert [path for path in sorted(place.folder.rglob("*")) if path not in before] == []


@pytest.mark.parametrize("command", ["train", "dry-run"])
@pytest.mark.parametrize(("lines", "message"), BAD_TICKETS.values(), ids=BAD_TICKETS)
def test_files_without_a_usable_ticket_are_refused_before_anything_is_written(place, command, lines, message):
    write_lines(place.folder / "tickets.jsonl", *lines)
    assert_refused(place, message, command)


BAD_SETTINGS = {
    "one answer": ({"num_generations": 1}, "grpo.num_generations"),
    "no block": ({"lora_last_k": 0}, "grpo.lora_last_k"),
    "two weights": ({"reward_weights": [1.0, 0.2]}, "2 weights for 3 rewards: label, format and consistency"),
    "no weight": ({"reward_weights": [0, 0, 0]}, "weights are finite, 0 or more, and not all 0"),
    "a seed beyond numpy": ({"seed": 1 << 32}, "grpo.seed"),
    "no file": ({"files": ["none.jsonl"]}, "none.jsonl cannot be read: No such file or directory"),
    "no mission": ({"missions": ["没有的"]}, "没有的"),
    "no texts": ({"prompts_file": "none.toml"}, "none.toml"),
}


@pytest.mark.parametrize("command", ["train", "dry-run"])
@pytest.mark.parametrize(("grpo", "message"), BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_settings_that_cannot_be_are_refused_before_anything_is_written(place, command, grpo, message):
    place.configure(grpo=grpo)
    assert_refused(place, message, command)


@pytest.mark.parametrize("command", ["train", "dry-run"])
def test_fewer_tickets_than_a_step_takes_are_refused_before_anything_is_written(place, command):
    place.configure(grpo={"gradient_accumulation": 6})
    ended = place.grpo(command)
    assert ended.code == 1
    assert "a step takes 12 tickets (grpo.prompts_per_step 2, grpo.gradient_accumulation 6, " in ended.output
    assert "and there are 10 to learn from; give more files" in ended.output
    assert not place.stage_b.exists()


def test_a_file_where_results_should_lie_is_told_before_any_answer(place):
    ended = place.grpo("dry-run", "--out", str(place.folder / "tickets.jsonl"))
    assert ended.code == 1
    assert "tickets.jsonl cannot be written: File exists; a file stands where a folder should" in ended.output
    assert "8/8" not in ended.output


def test_ids_of_tickets_cannot_steer_the_terminal(place):
    with (place.folder / "tickets.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(line(mission=RRU, group_id="\x1b[2J") + "\n" for _ in range(2))
    ended = place.grpo("dry-run")
    assert "duplicate ticket" in ended.output
    assert "\x1b[2J" not in ended.output


@pytest.mark.parametrize("command", ["train", "dry-run", "evaluate"])
def test_an_engine_without_a_model_is_refused(place, command):
    place.configure(engine={"engine": "fake"})
    ended = place.grpo(command)
    assert ended.code == 1
    assert "verdicts need a checkpoint, and engine 'fake' has none" in ended.output
    assert not place.stage_b.exists()


def test_evaluate_without_an_adapter_says_how_to_get_one(place):
    assert_refused(
        place, "stage_b.json cannot be read: No such file or directory; train an adapter first", "evaluate"
    )
    assert_refused(place, "has no adapter_config.json", "evaluate", "--adapter", str(place.folder / "none"))


def test_an_adapter_of_another_checkpoint_is_refused(own):
    path = own.run.adapter / "stage_b.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"checkpoint": "another"}), "utf-8")
    message = f"adapter {own.run.adapter} was trained on another checkpoint than builtin"
    assert_refused(own, message, "evaluate")


def test_an_adapter_that_has_seen_every_ticket_is_not_judged(own):
    seen = trained_ids(own.adapter)
    file = own.folder / "tickets.jsonl"
    rows = file.read_text("utf-8").splitlines()
    write_lines(file, *(row for row in rows if json.loads(row)["group_id"] in seen))
    assert_refused(own, "was trained on all 10 tickets of", "evaluate")


def test_a_training_s_folder_that_was_emptied_is_told_with_the_remedy(own):
    (own.run.adapter / "trained_on.txt").unlink()
    assert_refused(own, "trained_on.txt cannot be read", "evaluate")
