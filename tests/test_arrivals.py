"""Which missions to run, as the input root changes from one look to the next."""

import os

import pytest

from stage_a_pipeline.arrivals import (
    Listing,
    Look,
    Watched,
    decide,
    from_cursor,
    look,
    missions_with_folder,
    sentence,
    to_cursor,
)
from stage_a_pipeline.errors import DiscoveryError
from stage_a_pipeline.missions import load_missions
from tests.conftest import BRACKETS, MISSION, write_groups, write_photo

TABLE = load_missions()
SETTLE = 60.0


def seen(**hashes):
    return Look(tuple(Listing(mission, hash, 1) for mission, hash in hashes.items()))


class Watch:
    """Looks one after another, each with the cursor of the one before."""

    def __init__(self):
        self.cursor = None

    def see(self, now, hash="a", *, delivered=None, under_way=(), settle=SETTLE):
        decision = decide(
            from_cursor(self.cursor),
            seen(m=hash),
            delivered={} if delivered is None else {"m": delivered},
            under_way=under_way,
            now=now,
            settle_seconds=settle,
        )
        self.cursor = to_cursor(decision.watched)
        return [wanted.key for wanted in decision.wanted], decision.waiting


@pytest.fixture
def watch():
    return Watch()


def test_a_new_mission_is_run_once_its_listing_has_settled(watch):
    assert watch.see(0)[0] == []
    assert watch.see(59)[0] == []
    assert watch.see(60)[0] == ["m:a:0"]
    assert watch.see(90)[0] == []


def test_a_change_while_it_settles_begins_the_wait_anew(watch):
    watch.see(0)
    assert watch.see(59, "ab") == ([], ("m has changed, and is left to settle for 60 s more",))
    assert watch.see(61, "abc")[0] == []
    assert watch.see(120, "abc")[0] == []
    assert watch.see(121, "abc")[0] == ["m:abc:0"]


def test_without_settling_the_first_look_runs_what_it_sees(watch):
    assert watch.see(0, settle=0)[0] == ["m:a:0"]


def test_what_is_delivered_as_it_lies_is_not_run(watch):
    watch.see(0, delivered="a")
    assert watch.see(100, delivered="a") == ([], ())


def test_a_mission_under_way_waits_and_is_run_afterwards_if_it_still_differs(watch):
    watch.see(0)
    assert watch.see(60, under_way={"m"}) == (
        [],
        ("m has changed, and waits for the run that is under way",),
    )
    assert watch.see(90, delivered="older")[0] == ["m:a:0"]


def test_a_failed_run_is_not_repeated_before_something_changes(watch):
    watch.see(0, settle=0)
    keys, waiting = watch.see(30, settle=0)
    assert keys == []
    assert "was run as it is, and not delivered" in waiting[0]
    assert watch.see(60, "b", settle=0)[0] == ["m:b:1"]


def test_a_listing_that_comes_back_is_run_again_under_another_key(watch):
    keys = [watch.see(0, "a", settle=0)[0], watch.see(1, "b", delivered="a", settle=0)[0]]
    assert [*keys, watch.see(2, "a", delivered="b", settle=0)[0]] == [["m:a:0"], ["m:b:1"], ["m:a:2"]]


def test_the_same_cursor_asks_for_the_same_run(watch):
    watch.see(0)
    before = watch.cursor
    first = watch.see(60)
    watch.cursor = before
    assert watch.see(61) == first


def test_a_mission_that_cannot_be_read_keeps_what_was_remembered():
    known = {"m": Watched("a", 0.0, "a", 3)}
    nothing = Look((), {"m": "denied"})
    decision = decide(known, nothing, delivered={}, under_way=(), now=9, settle_seconds=0)
    assert decision.watched == known
    assert sentence(decision.waiting, nothing) == "m cannot be listed: denied"


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", '{"version": 0}', '{"version": 1, "missions": {"m": {}}}']
)
def test_a_cursor_that_is_none_is_begun_anew(text):
    assert from_cursor(text) == {}


def test_the_cursor_does_not_grow_with_the_groups(tmp_path):
    def cursor(groups):
        write_groups(tmp_path / str(groups), MISSION, {"pass": [1] * groups})
        found = look(tmp_path / str(groups), TABLE, allow_external_symlinks=False)
        decided = decide({}, found, delivered={}, under_way=(), now=0.5, settle_seconds=1)
        return to_cursor(decided.watched)

    assert len(cursor(40)) == len(cursor(1)) < 200


def listing_of(root):
    (listing,) = look(root, TABLE, allow_external_symlinks=False).listings
    return listing.hash


def test_a_new_a_grown_a_touched_and_a_removed_photo_change_the_listing(tmp_path):
    write_groups(tmp_path, MISSION, {"pass": [2]})
    (group,) = (tmp_path / MISSION / "审核通过").iterdir()
    hashes = [listing_of(tmp_path)]
    write_photo(group / "IMG_3.jpg", seed=9)
    hashes.append(listing_of(tmp_path))
    with (group / "IMG_3.jpg").open("ab") as photo:
        photo.write(b"more")
    hashes.append(listing_of(tmp_path))
    os.utime(group / "IMG_3.jpg", (1, 1))
    hashes.append(listing_of(tmp_path))
    (group / "IMG_2.jpg").unlink()
    hashes.append(listing_of(tmp_path))
    assert len(set(hashes)) == len(hashes)
    assert listing_of(tmp_path) == hashes[-1]


def test_a_folder_that_is_denied_makes_its_mission_unread_and_no_other(tmp_path, monkeypatch):
    write_groups(tmp_path, MISSION, {"pass": [1], "fail": [1]})
    write_groups(tmp_path, BRACKETS, {"pass": [1]})
    denied = tmp_path / MISSION / "审核通过"
    scandir = os.scandir

    # Nothing is denied to root, who runs tests in containers.
    def deny(path):
        if path == denied:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)
    found = look(tmp_path, TABLE, allow_external_symlinks=False)
    assert [listing.mission for listing in found.listings] == [BRACKETS]
    assert str(denied) in found.unread[MISSION]


def test_missions_come_in_the_table_s_order_and_those_without_folder_do_not(tmp_path):
    for mission in (MISSION, BRACKETS):
        write_groups(tmp_path, mission, {"pass": [1]})
    found = missions_with_folder(tmp_path, TABLE, allow_external_symlinks=False)
    assert found == [name for name in TABLE if name in (MISSION, BRACKETS)]


def test_a_root_that_is_a_mission_s_own_folder_is_that_mission(tmp_path):
    write_groups(tmp_path, MISSION, {"pass": [1]})
    assert missions_with_folder(tmp_path / MISSION, TABLE, allow_external_symlinks=False) == [MISSION]
    assert listing_of(tmp_path / MISSION) == listing_of(tmp_path)


def test_a_root_that_is_not_there_is_an_error_that_names_it(tmp_path):
    with pytest.raises(DiscoveryError, match="nowhere does not exist"):
        look(tmp_path / "nowhere", TABLE, allow_external_symlinks=False)
