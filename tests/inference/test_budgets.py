"""Budgets of tokens and pixels, and the order of sizes, with real files and the shipped fake engine."""

import threading
import weakref
from collections.abc import Sequence

import pytest

from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.engines.base import GenerationOptions, Request
from stage_a_pipeline.engines.fake import FakeBehaviour, FakeEngine, Fault
from stage_a_pipeline.errors import EngineError, EngineOutOfMemoryError
from stage_a_pipeline.inference.asking import BatchingOptions, Listeners, Recipe, request_id
from stage_a_pipeline.inference.batching import deal_out
from stage_a_pipeline.inference.journal import Journal
from stage_a_pipeline.inference.scheduler import ShardScheduler
from stage_a_pipeline.prompts import Prompt
from stage_a_pipeline.records import Rejection, Summary
from tests.conftest import LABEL_FOLDERS, MISSION, write_photo

GREEDY = GenerationOptions(max_new_tokens=64)
RECIPE = Recipe(Prompt("s" * 6, "u" * 4), 1_048_576, "fingerprint")
TEXT = 10
"""Tokens of the prompt's text, as the fake engine counts them: one a character."""

CELL = 32 * 32
"""Pixels of a photo's token, as the fake engine counts them."""


class Watching(FakeEngine):
    """Notes at every step the tokens and pixels of each who is under way, and how many were added so far."""

    def __init__(self, **behaviour):
        super().__init__(FakeBehaviour(**behaviour))
        self.stepped: list[list[tuple[int, int]]] = []
        self.added: list[int] = []
        self.asked: list[str] = []

    def start_batch(self, rows):
        batch = super().start_batch(rows)
        add, step = batch.add, batch.step

        def noted_add(request, options):
            self.asked.append(request.id)
            add(request, options)

        def noted_step():
            self.stepped.append([self.size(request) for request, _ in batch.open])
            self.added.append(len(self.asked))
            return step()

        batch.add, batch.step = noted_add, noted_step
        return batch

    def size(self, request: Request) -> tuple[int, int]:
        return self.prompt_tokens(request), request.image.width * request.image.height


def write_cells(root, groups: Sequence[Sequence[int]]):
    """Photos of so many tokens each, at least four, in groups."""
    assert min(map(min, groups)) >= 4
    seed = 0
    for number, sizes in enumerate(groups):
        for place, cells in enumerate(sizes):
            path = root / MISSION / LABEL_FOLDERS["pass"] / f"g{number:03d}" / f"{place:03d}.jpg"
            write_photo(path, seed=seed, size=(32 * cells, 32))
            seed += 1
    return deal_out(enumerate(discover_groups(root, MISSION).groups), shards=1, mode="per_group")[0]


def run(tmp_path, refs, engine, batching, journal="j", **listeners):
    with Journal(tmp_path / journal, "cpu", [MISSION]) as opened:
        scheduler = ShardScheduler(
            engine, opened, {MISSION: RECIPE}, GREEDY, batching, listeners=Listeners(**listeners)
        )
        outcomes = sorted(scheduler.run(refs), key=lambda o: (o.ref.group_index, o.ref.image_index))
    assert [outcome.ref for outcome in outcomes] == refs
    return outcomes, scheduler.metrics


@pytest.fixture(params=[False, True], ids=["static", "refill"])
def refill(request):
    return request.param


SIZES = [[6, 4, 9], [5, 40, 7, 8], [12], [4, 4, 4, 30, 30], [5, 6]]


@pytest.mark.parametrize(
    ("tokens", "pixels"), [(50, None), (None, 20 * CELL), (60, 15 * CELL), (1, None), (10_000, 10_000 * CELL)]
)
def test_nobody_joins_above_a_budget_and_one_above_it_goes_alone(tmp_path, refill, tokens, pixels):
    refs = write_cells(tmp_path / "in", SIZES)
    engine = Watching(refill=refill)
    outcomes, _ = run(tmp_path, refs, engine, BatchingOptions(4, max_tokens=tokens, max_pixels=pixels))
    assert all(isinstance(outcome, Summary) for outcome in outcomes)
    for under_way in engine.stepped:
        for limit, sizes in ((tokens, [t for t, _ in under_way]), (pixels, [p for _, p in under_way])):
            assert len(sizes) <= 4
            assert limit is None or len(sizes) == 1 or sum(sizes) <= limit


@pytest.mark.parametrize(
    ("sizes", "budget", "batches"),
    [
        ([10, 10, 10, 10, 10, 10], 60, [3, 3]),
        ([10, 10, 10, 10, 10, 10], 59, [2, 2, 2]),
        ([30, 10, 10, 30, 20], 80, [3, 2]),
        ([70, 10, 10], 50, [1, 2]),
        ([10, 70, 10], 50, [1, 1, 1]),
        ([10] * 9, 1000, [4, 4, 1]),
    ],
)
def test_every_static_batch_is_as_full_as_the_order_allows(tmp_path, sizes, budget, batches):
    """A photo of n cells has n tokens, and its prompt ten more."""
    refs = write_cells(tmp_path / "in", [sizes])
    engine = Watching()
    run(tmp_path, refs, engine, BatchingOptions(4, max_tokens=budget))
    assert engine.batch_sizes == batches


def test_a_refilled_batch_never_waits_while_the_next_photo_fits(tmp_path):
    refs = write_cells(tmp_path / "in", SIZES)
    engine = Watching(refill=True)
    run(tmp_path, refs, engine, BatchingOptions(6, max_tokens=80))
    cells = [size for group in SIZES for size in group]
    steps = zip(engine.stepped, engine.added, strict=True)
    waiting = [(under_way, cells[added]) for under_way, added in steps if added < len(cells)]
    assert len(waiting) > 5
    for under_way, next_cells in waiting:
        assert len(under_way) == 6 or sum(tokens for tokens, _ in under_way) + TEXT + next_cells > 80


def test_a_photo_above_a_budget_is_told_once_with_its_setting(tmp_path, refill):
    refs = write_cells(tmp_path / "in", [[5, 40, 5, 41]])
    warnings = []
    batching = BatchingOptions(4, max_tokens=50 - 1, max_pixels=30 * CELL)
    run(tmp_path, refs, Watching(refill=refill), batching, warning=warnings.append)
    assert len(warnings) == 2
    for setting, figure in (("tokens = 49", "50 tokens"), ("pixels = 30720", "40960 pixels")):
        (warning,) = (told for told in warnings if f"engine.max_batch_{setting}" in told)
        assert warning.startswith(request_id(refs[1]))
        assert figure in warning


def test_the_budget_survives_retries_failures_and_out_of_memory(tmp_path, refill):
    refs = write_cells(tmp_path / "in", [[4, 5, 6, 7]] * 8)
    faults = (
        Fault("g00[0135]/*", "empty", times=3),
        Fault("g002/001*", "error"),
        Fault("g004/*", "out_of_memory", times=2),
        Fault("g006/003*", "truncated"),
    )
    engine = Watching(refill=refill, faults=faults)
    outcomes, metrics = run(tmp_path, refs, engine, BatchingOptions(8, max_tokens=70))
    assert {outcome.reason for outcome in outcomes if isinstance(outcome, Rejection)} == {
        "engine_error",
        "truncated",
    }
    assert metrics.retried > 1
    assert metrics.batch_size < 8
    assert all(len(step) == 1 or sum(tokens for tokens, _ in step) <= 70 for step in engine.stepped)
    assert max(map(len, engine.stepped[-4:])) > 1, "the room of what ended is given back"


def test_photos_are_asked_by_size_within_windows_and_moved_no_further(tmp_path, refill):
    sizes = [14, 6, 10, 8, 13, 7, 7, 12, 6, 6, 11]
    refs = write_cells(tmp_path / "in", [sizes[:3], sizes[3:8], sizes[8:]])
    refs[2].image.path.write_bytes(b"not a photo")
    engine = Watching(refill=refill)
    outcomes, _ = run(tmp_path, refs, engine, BatchingOptions(3, sort_window=4))
    assert [o.ref for o in outcomes if isinstance(o, Rejection)] == [refs[2]]
    order = [1, 3, 0, 5, 6, 7, 4, 8, 9, 10]
    assert engine.asked == [request_id(refs[place]) for place in order]


def test_batches_per_group_keep_their_order(tmp_path):
    refs = write_cells(tmp_path / "in", [[9, 4, 5], [6, 8, 7]])
    engine = Watching()
    run(tmp_path, refs, engine, BatchingOptions(3, "per_group", sort_window=4))
    assert engine.asked == [request_id(ref) for ref in refs]


@pytest.mark.parametrize("window", [0, 1, 2, 5, 100])
def test_outcomes_do_not_depend_on_the_window(tmp_path, refill, window):
    refs = write_cells(tmp_path / "in", SIZES)
    expected, _ = run(tmp_path, refs, Watching(refill=refill), BatchingOptions(4), journal="expected")
    batching = BatchingOptions(4, sort_window=window, max_tokens=60)
    assert run(tmp_path, refs, Watching(refill=refill), batching)[0] == expected


class Patches:
    """What an engine makes of an image ahead."""

    mode = "RGB"

    def __init__(self, image):
        self.size = image.size
        self.tobytes = image.tobytes


class Preparing(Watching):
    """Prepares photos by their width; cannot prepare those of some widths."""

    def __init__(self, *, error: Exception, widths=(), **behaviour):
        super().__init__(**behaviour)
        self.error = error
        self.widths = widths

    def prepare(self, image):
        if image.width in self.widths:
            raise self.error
        return Patches(image)

    def generate(self, requests, options):
        assert {type(request.image) for request in requests} == {Patches}
        return super().generate(requests, options)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (EngineError("no patches"), "engine_error"),
        (RuntimeError("a library's"), "engine_error"),
        (EngineOutOfMemoryError("no memory on the host"), "out_of_memory"),
    ],
)
def test_a_photo_that_cannot_be_prepared_is_lost_alone(tmp_path, refill, error, reason):
    refs = write_cells(tmp_path / "in", [[4, 5, 6], [7, 8], [5, 9]])
    warnings = []
    engine = Preparing(error=error, widths=(5 * 32,), refill=refill)
    outcomes, metrics = run(tmp_path, refs, engine, BatchingOptions(3), warning=warnings.append)
    lost = [outcome for outcome in outcomes if isinstance(outcome, Rejection)]
    assert [outcome.ref for outcome in lost] == [refs[1], refs[5]]
    assert {(outcome.stage, outcome.reason, outcome.attempts) for outcome in lost} == {
        ("summarise", reason, 1)
    }
    assert all(str(error) in outcome.detail for outcome in lost)
    assert (metrics.inferred, metrics.rejected, len(warnings)) == (7, 2, 2)
    again, _ = run(tmp_path, refs, FakeEngine(), BatchingOptions(3))
    assert all(isinstance(outcome, Summary) for outcome in again), "they are tried again by the next run"
    assert [outcome.reused for outcome in again] == [True, False, True, True, True, False, True]


@pytest.mark.parametrize("ahead", [None, 1, 2])
def test_at_most_a_batch_and_those_ahead_of_it_are_in_memory(tmp_path, refill, ahead):
    class Counting(FakeEngine):
        alive, most, lock = weakref.WeakSet(), 0, threading.Lock()

        def prepare(self, image):
            patches = Patches(image)
            with self.lock:
                self.alive.add(patches)
                self.most = max(self.most, len(self.alive))
            return patches

    engine = Counting(FakeBehaviour(refill=refill, faults=(Fault("*/001*", "empty", times=5),)))
    options = BatchingOptions(4, sort_window=16, photos_ahead=ahead)
    run(tmp_path, write_cells(tmp_path / "in", [[4, 5, 6]] * 20), engine, options)
    assert 4 <= engine.most <= 4 + (ahead or 4) + 1
    assert len(engine.alive) == 0
