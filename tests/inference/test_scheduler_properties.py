"""Whatever engine, photos and batches are like: every photo ends once, and nothing is repeated."""

import json
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.engines.base import GenerationOptions
from stage_a_pipeline.engines.fake import FakeBehaviour, FakeEngine, Fault
from stage_a_pipeline.errors import EngineContractError
from stage_a_pipeline.inference.asking import BatchingOptions, Recipe
from stage_a_pipeline.inference.batching import deal_out
from stage_a_pipeline.inference.journal import Journal
from stage_a_pipeline.inference.scheduler import ShardScheduler
from stage_a_pipeline.prompts import Prompt
from stage_a_pipeline.records import Rejection, Summary
from tests.conftest import LABEL_FOLDERS, MISSION, write_photo

RECIPE = Recipe(Prompt("s", "u"), 1_048_576, "fingerprint")
UNREADABLE = -1

groups_of_photos = st.lists(
    st.lists(st.integers(UNREADABLE, 12), min_size=1, max_size=6), min_size=1, max_size=8
)
"""Each photo is the number of its picture: equal numbers are identical files."""

faults = st.lists(
    st.builds(
        Fault,
        st.sampled_from(["*", "*g0*", "*g1/*", "*/1.jpg*", "*/2.jpg*", "*#3.*"]),
        st.sampled_from(["error", "out_of_memory", "empty", "truncated", "repetition", "invalid"]),
        st.sampled_from([0, 1, 2, 3, 7]),
    ),
    max_size=4,
)
breaches = st.lists(
    st.builds(Fault, st.sampled_from(["*g1/*", "*/2.jpg*"]), st.sampled_from(["too_few", "reordered"])),
    max_size=1,
)
behaviours = st.builds(FakeBehaviour, max_batch=st.sampled_from([None, 1, 2, 3, 5]), refill=st.booleans())
batchings = st.builds(
    BatchingOptions,
    st.integers(1, 9),
    st.sampled_from(["cross_group", "per_group"]),
    st.integers(1, 3),
    max_tokens=st.sampled_from([None, 1, 13, 30]),
    max_pixels=st.sampled_from([None, 1, 9_000]),
    sort_window=st.sampled_from([0, 2, 7]),
)


class WatchedJournal(Journal):
    """Knows which photos are safe: written, and committed since."""

    def __init__(self, folder, shard, missions):
        super().__init__(folder, shard, missions)
        self.written, self.safe = set(), set()

    def append_answer(self, mission, photo, content_sha256, *arguments):
        super().append_answer(mission, photo, content_sha256, *arguments)
        self.written.add(content_sha256)

    def append_failure(self, mission, photo, content_sha256, *arguments, **more):
        super().append_failure(mission, photo, content_sha256, *arguments, **more)
        self.written.add(content_sha256)

    def commit(self):
        super().commit()
        self.safe |= self.written


def write_tree(root, groups):
    for number, photos in enumerate(groups):
        for place, picture in enumerate(photos):
            path = root / MISSION / LABEL_FOLDERS["pass"] / f"g{number}" / f"{place}.jpg"
            write_photo(path, seed=picture, size=(64, 64))
            if picture == UNREADABLE:
                path.write_bytes(b"not a photo")
    return deal_out(enumerate(discover_groups(root, MISSION).groups), shards=1, mode="per_group")[0]


def run(folder, refs, engine, batching, options, told):
    """Append every outcome to `told`, and check that it was safe by then."""
    with WatchedJournal(folder, "cpu", [MISSION]) as journal:
        scheduler = ShardScheduler(engine, journal, {MISSION: RECIPE}, options, batching)
        for outcome in scheduler.run(refs):
            told.append(outcome)
            asked_now = not outcome.reused if isinstance(outcome, Summary) else outcome.stage == "summarise"
            assert not asked_now or outcome.content_sha256 in journal.safe
    metrics = scheduler.metrics
    assert Counter(place(outcome) for outcome in told) == Counter(
        (ref.group_index, ref.image_index) for ref in refs
    )
    assert metrics.photos == len(refs)
    assert metrics.rejected == sum(isinstance(outcome, Rejection) for outcome in told)
    assert metrics.reused == sum(isinstance(outcome, Summary) and outcome.reused for outcome in told)
    assert 0 <= metrics.filled_places <= metrics.places


def place(outcome):
    return outcome.ref.group_index, outcome.ref.image_index


@given(
    groups=groups_of_photos,
    behaviour=behaviours,
    faults=faults,
    breaches=breaches,
    batching=batchings,
    temperature=st.sampled_from([0.0, 0.7]),
)
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_photo_ends_once_and_a_second_run_asks_only_what_is_missing(
    groups, behaviour, faults, breaches, batching, temperature
):
    options = GenerationOptions(64, temperature=temperature)
    with tempfile.TemporaryDirectory() as folder:
        refs = write_tree(Path(folder, "in"), groups)
        journal, told, again = Path(folder, "journal"), [], []
        faulty = FakeBehaviour(
            max_batch=behaviour.max_batch, refill=behaviour.refill, faults=(*breaches, *faults)
        )
        try:
            run(journal, refs, FakeEngine(faulty), batching, options, told)
        except EngineContractError:
            assert breaches
        assert max(Counter(place(outcome) for outcome in told).values(), default=1) == 1
        texts = {place(outcome): outcome.raw_text for outcome in told if isinstance(outcome, Summary)}

        run(journal, refs, FakeEngine(FakeBehaviour(refill=behaviour.refill)), batching, options, again)
        assert all(isinstance(outcome, Summary) or outcome.stage == "read" for outcome in again)
        assert texts.items() <= {place(outcome): outcome.raw_text for outcome in again}.items()
        assert all(outcome.reused for outcome in again if place(outcome) in texts)
        lines = [json.loads(line) for line in (journal / MISSION / "cpu.jsonl").read_bytes().splitlines()]
        answered = Counter(
            (line["sha256"], line["fingerprint"]) for line in lines if line["status"] == "summarised"
        )
        assert max(answered.values(), default=1) == 1, "no photo is answered twice"

        third = FakeEngine()
        run(journal, refs, third, batching, options, [])
        assert third.batch_sizes == []
