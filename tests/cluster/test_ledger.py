"""What the run keeps of its shards: once, and in order."""

import pytest

from stage_a_pipeline.cluster.ledger import Ledger
from stage_a_pipeline.cluster.shards import Shard, cut_shards
from stage_a_pipeline.inference.answer_index import KEY_BYTES
from stage_a_pipeline.inference.asking import Questions
from stage_a_pipeline.inference.conclusions import crashed
from stage_a_pipeline.inference.journal import Journal
from stage_a_pipeline.records import Rejection, Summary
from tests.conftest import MISSION


@pytest.fixture
def kept(tmp_path, task):
    """The shards of a task, and ledgers over its journal."""
    given = task()

    def ledger(journal):
        return Ledger(journal, Questions(given.shard.recipes, greedy=True), tmp_path / "shards")

    def journal():
        return Journal(tmp_path / "journal", "cpu", [MISSION])

    return list(cut_shards(given.shard.refs, size=3, mode="per_image")), ledger, journal


def answer(ref, text, sha256=None):
    return Summary(ref, sha256 or f"sha of {ref.group.group_id}/{ref.image.name}", text, "stop", 7, 8)


def texts(ledger):
    return ledger.outcomes().read().column("raw_text").to_pylist()


def test_outcomes_stand_in_the_order_of_their_shards_whoever_came_first(kept):
    shards, ledger_of, journal_of = kept
    with journal_of() as journal:
        ledger = ledger_of(journal)
        for shard in reversed(shards):
            ledger.commit(shard, [answer(ref, f"{shard.id}") for ref in reversed(shard.refs)])
        assert texts(ledger) == [shard.id for shard in shards for _ in shard.refs]
        assert ledger.counts.photos == ledger.counts.inferred == len(ledger.news) // KEY_BYTES == 30


def test_where_two_hosts_answered_a_photo_the_first_answer_counts_for_both(kept):
    shards, ledger_of, journal_of = kept
    with journal_of() as journal:
        ledger = ledger_of(journal)
        ledger.commit(shards[0], [answer(ref, "first", sha256="the same") for ref in shards[0].refs])
        ledger.commit(shards[1], [answer(ref, "second", sha256="the same") for ref in shards[1].refs])
        assert set(texts(ledger)) == {"first"}
        assert (ledger.counts.inferred, ledger.counts.reused) == (1, 5)
    lines = [line for path in journal._folder.rglob("*.jsonl") for line in path.read_bytes().splitlines()]
    assert len(lines) == 1


def test_the_empty_answer_to_a_known_photo_becomes_the_known_one(kept):
    shards, ledger_of, journal_of = kept
    with journal_of() as journal:
        ledger_of(journal).commit(shards[0], [answer(ref, "known") for ref in shards[0].refs])
    with journal_of() as journal:
        ledger = ledger_of(journal)
        ledger.commit(shards[0], [answer(ref, "") for ref in shards[0].refs])
        assert set(texts(ledger)) == {"known"}
        assert (ledger.counts.inferred, ledger.counts.reused) == (0, 3)


def test_a_photo_that_crashed_on_a_host_is_remembered_as_such(kept):
    shards, ledger_of, journal_of = kept
    ref, *others = shards[0].refs
    with journal_of() as journal:
        outcomes = [crashed(ref, "its sha", 2), *(answer(other, "fine") for other in others)]
        ledger_of(journal).commit(shards[0], outcomes)
        # Behind it, what is appended is found where it stands.
        assert journal.find(outcomes[-1].content_sha256, fingerprint(shards[0], kept)).raw_text == "fine"
    with journal_of() as journal:
        assert journal.crashes("its sha", fingerprint(shards[0], kept)) == 2


def test_a_crash_of_an_earlier_run_that_a_host_tells_again_is_not_written_again(kept):
    shards, ledger_of, journal_of = kept
    ref = shards[0].refs[0]
    for _ in range(3):
        with journal_of() as journal:
            ledger_of(journal).commit(Shard((ref,)), [crashed(ref, "its sha", 2)])
    with journal_of() as journal:
        assert list(journal.crash_counts().values()) == [2]
    lines = [line for path in journal._folder.rglob("*.jsonl") for line in path.read_bytes().splitlines()]
    assert len(lines) == 1


def test_a_photo_that_is_given_up_is_remembered_by_its_bytes(kept):
    shards, ledger_of, journal_of = kept
    ref = shards[0].refs[0]
    with journal_of() as journal:
        rejection = ledger_of(journal).give_up(ref)
    assert isinstance(rejection, Rejection)
    with journal_of() as journal:
        assert journal.crashes(rejection.content_sha256, fingerprint(shards[0], kept)) == 2


def test_outcomes_of_other_photos_are_never_written(kept):
    shards, ledger_of, journal_of = kept
    with journal_of() as journal, pytest.raises(AssertionError, match="outcomes of other photos"):
        ledger_of(journal).commit(shards[0], [answer(ref, "x") for ref in shards[1].refs])


def fingerprint(shard, kept):
    _, ledger_of, _ = kept
    return ledger_of(None)._questions.fingerprint(shard.refs[0])
