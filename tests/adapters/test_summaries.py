"""Stage-A with an adapter and without, on rendered photos: what is compared, and when nothing is."""

from __future__ import annotations

import json

import pytest

from stage_a_pipeline.adapters import summaries
from stage_a_pipeline.adapters.summaries import compare_with_adapter
from stage_a_pipeline.demo.tree import write_demo_tree
from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.settings import EngineSettings, Settings
from stage_a_pipeline.stage_b.tickets import Ticket
from tests.conftest import BRACKETS
from tests.stage_b.trained import TRAINED

MISSIONS = load_missions()
PHOTOS = 4


class Compared:
    """A rendered tree, its tickets, and settings to compare on it."""

    def __init__(self, folder):
        self.folder = folder
        self.tree = write_demo_tree(folder / "in", missions=[TRAINED], groups=4, seed=3)
        self.groups = discover_groups(folder / "in", TRAINED, missions=MISSIONS).groups

    def settings(self, *, photos=PHOTOS, root="in"):
        return Settings.model_validate(
            {
                "discovery": {"input_root": root and self.folder / root},
                "engine": {"max_pixels": 65536, "max_new_tokens": 256},
                "inference": {"lease_dir": self.folder / "leases", "worker_processes": False},
                "output": {"output_dir": self.folder / "out"},
                "grpo": {"stage_a_photos": photos, "bootstrap_samples": 100},
            }
        )

    def tickets(self, groups=None, *, mission=TRAINED):
        chosen = self.groups if groups is None else groups
        return [Ticket(one.group_id, mission, one.label, ("甲",), self.folder / "a", 1) for one in chosen]

    def compare(self, adapter, told, tickets=None, **settings):
        given = self.tickets() if tickets is None else tickets
        return compare_with_adapter(self.settings(**settings), given, adapter, MISSIONS, told.audience)

    def answered(self):
        journals = (self.folder / "out" / "work" / "journal").rglob("*.jsonl")
        return [
            json.loads(line)["photo"] for path in journals for line in path.read_text("utf-8").splitlines()
        ]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    return Compared(tmp_path_factory.mktemp("compared"))


def test_the_same_photos_are_asked_with_and_without_and_held_against_the_truth(compared, trained, told):
    quality = compared.compare(trained.adapter, told)
    assert told.notices == []
    assert 0 < quality.photos <= PHOTOS
    assert quality.photos_with_truth == quality.photos
    assert quality.exact_match.difference.value == pytest.approx(
        quality.exact_match.adapted.value - quality.exact_match.base.value
    )
    assert 0 < quality.key_recall.base.value <= 1
    # Answers without the adapter are never taken for those with it.
    answered = compared.answered()
    assert len(answered) == 2 * len(set(answered)) > 0
    assert compared.compare(trained.adapter, told) == quality
    assert len(compared.answered()) == len(answered)


def test_without_a_truth_the_answers_are_held_against_each_other(compared, trained, told):
    compared.tree.truth.rename(compared.folder / "truth.jsonl")
    try:
        quality = compared.compare(trained.adapter, told)
    finally:
        (compared.folder / "truth.jsonl").rename(compared.tree.truth)
    assert (quality.photos_with_truth, quality.exact_match, quality.key_recall) == (0, None, None)
    assert 0 <= quality.agreement.value <= 1
    assert round(quality.agreement.value * quality.photos) == quality.photos - quality.changed


def test_groups_are_whole_and_no_more_than_the_settings_allow_but_one(compared, told):
    def chosen(photos):
        settings = compared.settings(photos=photos)
        return summaries._some_groups(settings, compared.tickets(), MISSIONS, told.audience)

    assert [len(chosen(1)), len(chosen(1000))] == [1, 4]
    assert chosen(1000) == sorted(compared.groups, key=lambda group: str(group.folder))
    for photos in (1, 4, 8):
        groups = chosen(photos)
        assert len(groups) == 1 or sum(len(group.images) for group in groups) <= photos
        assert chosen(photos) == groups


def test_only_the_photos_of_the_tickets_are_compared(compared, told):
    wanted = compared.groups[1:3]
    found = summaries._some_groups(
        compared.settings(photos=1000), compared.tickets(wanted), MISSIONS, told.audience
    )
    assert {group.ticket_key for group in found} == {group.ticket_key for group in wanted}


NOTHING = [
    ({"photos": 0}, "not compared: grpo.stage_a_photos is 0"),
    ({"root": None}, "not compared: discovery.input_root is not set"),
]


@pytest.mark.parametrize(("settings", "notice"), NOTHING)
def test_without_photos_to_ask_it_is_told_and_nothing_is_compared(compared, told, settings, notice):
    assert compared.compare(None, told, **settings) is None
    assert told.notices == [f"Stage-A with the adapter is {notice}"]


def test_a_tree_without_the_tickets_is_told(compared, told):
    elsewhere = Ticket("QC-x", TRAINED, "pass", ("甲",), compared.folder / "a", 1)
    assert compared.compare(None, told, [elsewhere]) is None
    assert told.notices[-1].endswith("in holds no photos of the tickets that judge")


def test_a_tree_without_a_mission_leaves_the_others(compared, told):
    tickets = [*compared.tickets(), *compared.tickets(mission=BRACKETS)]
    found = summaries._some_groups(compared.settings(photos=1000), tickets, MISSIONS, told.audience)
    assert len(found) == 4
    (notice,) = told.notices
    assert notice.startswith(f"{BRACKETS}: ")


@pytest.mark.parametrize("name", ["refill", "transformers"])
def test_engines_that_take_adapters_stay(told, name):
    engine = EngineSettings(engine=name, batch_size=3)
    assert summaries._engine(engine, told.audience) is engine
    assert told.notices == []


@pytest.mark.parametrize(
    ("engine", "devices"),
    [
        ({"engine": "openai", "server_model": "m", "checkpoint": "/c"}, ("cpu",)),
        ({"engine": "vllm", "devices": ["cuda:0+1", "cuda:2"], "checkpoint": "/c"}, ("cuda:0", "cuda:2")),
    ],
)
def test_other_engines_give_way_to_one_that_does_and_it_is_told(told, engine, devices):
    chosen = summaries._engine(EngineSettings.model_validate(engine), told.audience)
    assert (chosen.engine, chosen.devices, chosen.checkpoint) == ("refill", devices, "/c")
    assert told.notices == [
        f"engine {engine['engine']!r} takes no adapter: Stage-A is compared on engine 'refill', both times"
    ]
