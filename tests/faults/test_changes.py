"""What changes between two runs or under one: an old answer is never given to a new question."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from stage_a_pipeline.demo.tree import write_demo_tree
from tests.conftest import MISSION, write_photo
from tests.faults.conftest import HERE, PHOTOS, finish, group_folder, photo

GROUP = "QC-20241028-pass002"


def other_prompts(workplace):
    texts = files("stage_a_pipeline.prompts").joinpath("stage_a.toml").read_text("utf-8")
    changed = workplace.folder / "prompts.toml"
    changed.write_text(texts.replace("。", "！", 1), "utf-8")
    workplace.configure(prompts={"prompts_file": changed.name}, inference=HERE)


def set_engine(**values):
    return lambda workplace: workplace.configure(engine=values, inference=HERE)


def other_photo(workplace):
    write_photo(photo(workplace.root, GROUP, "IMG_1.jpg"), seed=999)


def renamed_photo(workplace):
    path = photo(workplace.root, GROUP, "IMG_1.jpg")
    path.rename(path.with_name("IMG_1b.jpg"))


CHANGES = {
    "prompts": (other_prompts, PHOTOS),
    "max_new_tokens": (set_engine(max_new_tokens=77), PHOTOS),
    "repetition_penalty": (set_engine(repetition_penalty=1.2), PHOTOS),
    "max_pixels": (set_engine(max_pixels=4096), PHOTOS),
    "temperature": (set_engine(temperature=0.7), PHOTOS),
    "a photo's bytes": (other_photo, 1),
    "a photo's name": (renamed_photo, 0),
    "the batch size": (set_engine(batch_size=5), 0),
}
"""What is changed between two runs, and how many photos are asked again for it."""


@pytest.mark.parametrize("change", CHANGES)
def test_old_answers_are_reused_only_for_the_same_question(workplace, change):
    workplace.configure(inference=HERE)
    assert workplace.run_here().code == 0
    asked = len(workplace.asked())
    make, again = CHANGES[change]
    make(workplace)
    assert workplace.run_here().code == 0
    assert len(workplace.asked()) - asked == again


def test_other_weights_are_another_model_whose_answers_are_its_own(make_workplace):
    workplace = make_workplace({"pass": [1]})
    shutil.rmtree(workplace.root)
    write_demo_tree(workplace.root, missions=[MISSION], groups=2, seed=3)
    checkpoint = workplace.folder / "checkpoint"
    shutil.copytree(str(files("stage_a_pipeline.demo").joinpath("checkpoint")), checkpoint)
    real = {"engine": "refill", "checkpoint": str(checkpoint), "batch_size": 8, "max_new_tokens": 48}
    workplace.configure(engine=real, inference=HERE | {"max_failed_fraction": 1.0})
    workplace.run_here()
    before = answers_by_fingerprint(workplace)
    change_a_tensor(checkpoint / "model.safetensors")
    workplace.run_here()
    after = answers_by_fingerprint(workplace)
    (old,) = before
    assert set(after) > {old}, "the changed model has a fingerprint of its own"
    (new,) = set(after) - {old}
    assert after[new].keys() == after[old].keys()
    assert after[new] != after[old]


def answers_by_fingerprint(workplace) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for row in workplace.lines():
        found.setdefault(row["fingerprint"], {})[row["photo"]] = row.get("text", row["status"])
    return found


def change_a_tensor(path: Path) -> None:
    tensors = load_file(path)
    name = "model.visual.patch_embed.proj.weight"
    tensors[name] = tensors[name].flip(0)
    save_file(tensors, path, metadata={"format": "pt"})


def test_photos_that_change_under_a_run_get_their_own_outcome(workplace, undisturbed):
    """Everything below happens to groups that the run comes to later."""
    expected = {
        (group, name): text
        for group, record in undisturbed.records().items()
        for name, text in zip(record.images, record.summaries, strict=True)
    }
    workplace.configure("seconds_per_photo = 0.1\n", inference={"max_failed_fraction": 1.0})
    process = workplace.start()
    workplace.wait_for_answers(2, process)
    photo(workplace.root, "QC-20241028-pass001", "IMG_3.jpg").unlink()
    shutil.rmtree(group_folder(workplace.root, "QC-20241028-pass003"))
    write_photo(photo(workplace.root, "QC-20241028-pass002", "IMG_2.jpg"), seed=999)
    photo(workplace.root, "QC-20241028-pass004", "IMG_1.jpg").write_bytes(b"\xff\xd8\xff half a copy")
    write_photo(group_folder(workplace.root, "QC-20241028-pass005") / "IMG_9.jpg", seed=998)
    write_photo(group_folder(workplace.root, "QC-20241028-pass999") / "IMG_1.jpg", seed=997)
    ended = finish(process)
    assert ended.code == 0
    assert {(group[-7:], name): row["reason"] for (group, name), row in workplace.rejected().items()} == {
        ("pass001", "IMG_3.jpg"): "unreadable",
        ("pass003", "IMG_1.jpg"): "unreadable",
        ("pass003", "IMG_2.jpg"): "unreadable",
        ("pass003", "IMG_3.jpg"): "unreadable",
        ("pass004", "IMG_1.jpg"): "truncated",
    }
    records = workplace.records()
    assert [group[-7:] for group in records] == [
        *(f"fail00{number}" for number in range(1, 6)), "pass002", "pass005",
    ]  # fmt: skip
    assert records["QC-20241028-pass005"].images == ("IMG_1.jpg",), "what is added belongs to the next run"
    for group, record in records.items():
        for name, text in zip(record.images, record.summaries, strict=True):
            same = (group, name) != ("QC-20241028-pass002", "IMG_2.jpg")
            assert (text == expected[group, name]) == same

    workplace.configure(inference={"max_failed_fraction": 1.0})
    assert workplace.run_here().code == 0
    assert workplace.records()["QC-20241028-pass005"].images == ("IMG_1.jpg", "IMG_9.jpg")
    assert "QC-20241028-pass999" in workplace.records()
