"""Which photos form a shard, who gets it, and what becomes of a lost one: policy, without Ray."""

import pickle
from pathlib import Path

import pytest

from stage_a_pipeline.cluster.messages import for_hosts, read_shard_line, shard_line
from stage_a_pipeline.cluster.shards import Shard, ShardQueue, after_loss, cut_shards, shard_size
from stage_a_pipeline.errors import PhotoError
from stage_a_pipeline.inference.asking import request_id
from stage_a_pipeline.inference.conclusions import unreadable
from stage_a_pipeline.records import Group, Image, ImageRef
from stage_a_pipeline.tables import outcome_row

FOLDER = Path("/photos")


def refs_of(*sizes):
    return [
        ImageRef(place, image, Group("m", "pass", f"g{place}", FOLDER, (Image(FOLDER, "a.jpg"),) * size))
        for place, size in enumerate(sizes)
        for image in range(1, size + 1)
    ]


def lengths(shards):
    return [len(shard.refs) for shard in shards]


@pytest.mark.parametrize(
    ("photos", "actors", "most", "size"),
    [(10_000, 3, 256, 256), (1_000, 3, 256, 84), (24, 3, 256, 2), (1, 8, 256, 1), (30, 1, 4, 4)],
)
def test_few_photos_are_cut_smaller_so_that_every_actor_has_some(photos, actors, most, size):
    assert shard_size(photos, actors=actors, most=most) == size


@pytest.mark.parametrize(
    ("sizes", "mode", "expected"),
    [
        ((3, 1, 2), "per_group", [4, 2]),
        ((3, 2, 2), "per_group", [3, 4]),
        ((9, 1), "per_group", [4, 4, 2]),
        ((3, 2, 2), "per_image", [4, 3]),
        ((), "per_group", []),
    ],
)
def test_shards_keep_groups_whole_where_they_are_dealt_out_by_groups(sizes, mode, expected):
    refs = refs_of(*sizes)
    shards = list(cut_shards(refs, size=4, mode=mode))
    assert lengths(shards) == expected
    assert [ref for shard in shards for ref in shard.refs] == refs


def test_a_shard_has_the_same_id_in_every_run_and_no_other_has_it():
    shards, again = ([*cut_shards(refs_of(3, 2, 4, 1, 1), size=3, mode="per_group")] for _ in range(2))
    assert [shard.id for shard in shards] == [shard.id for shard in again]
    everybody = {part.id for shard in shards for part in (shard, *after_loss(Shard(shard.refs, losses=1)))}
    assert len(everybody) == len(shards) + sum(2 for shard in shards if len(shard.refs) > 1)


def test_a_guilty_photo_is_found_among_256_and_costs_nobody_else():
    refs = refs_of(*[4] * 64)
    guilty, waiting, done, given_up, losses = refs[77], [Shard(tuple(refs))], [], [], 0
    while waiting:
        shard = waiting.pop(0)
        if guilty in shard.refs:
            losses += 1
            parts = after_loss(shard)
            waiting += parts
            given_up += () if parts else shard.refs
        else:
            done += shard.refs
    assert given_up == [guilty]
    assert sorted(map(refs.index, done)) == [place for place in range(256) if place != 77]
    assert losses <= 12


def test_the_first_loss_blames_nobody():
    (shard,) = cut_shards(refs_of(4), size=4, mode="per_group")
    assert lengths(after_loss(shard)) == [4]


def test_a_shard_travels_without_the_other_photos_of_its_groups():
    images = tuple(Image(FOLDER, f"{number}.jpg") for number in range(1000))
    group = Group("m", "pass", "g", FOLDER, images)
    elsewhere = Group("m", "pass", "h", FOLDER, (Image(FOLDER / "elsewhere", "0.jpg"),))
    refs = (ImageRef(7, 3, group), ImageRef(7, 1000, group), ImageRef(8, 1, elsewhere))
    line = shard_line(for_hosts(Shard(refs)), b"0123456789abcdef")
    assert len(line) < 500
    assert len(pickle.dumps(for_hosts(Shard(refs)))) < 5_000
    read, news = read_shard_line(line)
    assert news == b"0123456789abcdef"
    assert [request_id(ref) for ref in read.refs] == ["g/2.jpg#7.3", "g/999.jpg#7.1000", "h/0.jpg#8.1"]
    assert [ref.image.path for ref in read.refs] == [ref.image.path for ref in refs]
    assert [outcome_row(unreadable(ref, PhotoError("x", "y"), None)) for ref in read.refs] == [
        outcome_row(unreadable(ref, PhotoError("x", "y"), None)) for ref in refs
    ]


class TestQueue:
    def queue(self, *sizes):
        return ShardQueue(cut_shards(refs_of(*sizes), size=1, mode="per_group"))

    def work_off(self, refs, guilty, *, size, ahead=3, most_in_a_row=6):
        """What a single actor after the other gives up; stops where so many are lost in a row."""
        queue = ShardQueue(cut_shards(refs, size=size, mode="per_image"))
        given_up, number = [], 0
        while queue and queue.lost_in_a_row < most_in_a_row:
            taken = [queue.take(str(number), most=ahead, actors=1) for _ in range(ahead)]
            for shard in filter(None, taken):
                if guilty.isdisjoint(map(refs.index, shard.refs)):
                    queue.end(str(number), shard.id)
                else:
                    given_up += queue.lose(str(number))[1]
                    number += 1
                    break
        return list(map(refs.index, given_up)), bool(queue)

    @pytest.mark.parametrize(
        "guilty", [range(0, 256, 32), (17, 18), (0, 255), (3, 4, 5, 77, 78, 200), (*range(10, 18), 90)]
    )
    @pytest.mark.parametrize("size", [1, 16])
    def test_many_guilty_photos_are_found_out_and_do_not_end_the_run(self, guilty, size):
        given_up, is_any_left = self.work_off(refs_of(*[4] * 64), set(guilty), size=size)
        assert (sorted(given_up), is_any_left) == (list(guilty), False)

    @pytest.mark.parametrize("size", [1, 16])
    def test_where_every_actor_dies_the_run_ends_before_a_photo_is_blamed(self, size):
        assert self.work_off(refs_of(*[4] * 64), set(range(256)), size=size) == ([], True)

    def test_where_actors_begin_to_die_over_all_photos_none_is_blamed_for_it(self):
        assert self.work_off(refs_of(*[4] * 64), set(range(100, 256)), size=16) == ([], True)

    def test_everything_ends_once_and_a_late_answer_is_told_so(self):
        queue = self.queue(1, 1)
        first = queue.take("a", most=2, actors=1)
        queue.lose("a")
        assert queue.end("a", first.id) is None
        ended = []
        while queue:
            shard = queue.take("b", most=2, actors=1)
            ended.append(queue.end("b", shard.id).id)
        assert sorted(ended) == ["0.1-0.1", "1.1-1.1"]

    def test_a_suspect_waits_until_its_actor_has_nothing_else(self):
        queue = self.queue(1, 1, 1, 1)
        queue.take("a", most=4, actors=1)
        queue.lose("a")
        others = [queue.take("b", most=4, actors=1) for _ in range(4)]
        assert [shard.losses for shard in others if shard] == [0, 0, 0]

    def test_an_actor_with_a_suspect_gets_nothing_else(self):
        queue = self.queue(1, 1)
        suspect = queue.take("a", most=4, actors=1)
        other = queue.take("c", most=4, actors=1)
        queue.lose("a")
        assert queue.take("b", most=4, actors=1).refs == suspect.refs
        queue.give_back("c")
        assert queue.take("b", most=4, actors=1) is None
        assert queue.take("c", most=4, actors=1) == other

    def test_towards_the_end_nobody_gets_more_than_keeps_it_busy(self):
        queue = self.queue(*[1] * 7)
        taken = [queue.take("a", most=5, actors=3) for _ in range(8)]
        assert sum(shard is not None for shard in taken) == 4

    def test_what_is_given_back_comes_first_and_nobody_is_blamed(self):
        queue = self.queue(1, 1, 1)
        taken = [queue.take("a", most=2, actors=1) for _ in range(2)]
        queue.give_back("a")
        assert [queue.take("b", most=5, actors=1) for _ in range(2)] == taken
