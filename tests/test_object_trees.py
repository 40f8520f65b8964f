"""The same tree on disk, in S3 and in memory is the same to discovery; listing it costs pages only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stage_a_pipeline.discovery import Discovery, discover_groups
from stage_a_pipeline.errors import DiscoveryError, StoreError
from stage_a_pipeline.places import Place, as_place
from stage_a_pipeline.storage import objects
from stage_a_pipeline.tables import groups_from_table, groups_to_table
from tests.conftest import BRACKETS, MISSION, write_groups
from tests.object_store import Store


def odd_tree(root: Path) -> Path:
    """Groups whose order is not that of their names, and everything that is skipped."""
    write_groups(root, MISSION, {"fail": [3, 1], "pass": [2]})
    write_groups(root, BRACKETS, {"pass": [1]}, first_seed=9)
    label = root / MISSION / "审核通过"
    for name in (
        "IMG_10.jpg",
        "IMG_9.JPG",
        "img_2.png",
        "notes.txt",
        ".hidden.jpg",
        "Thumbs.db",
        "a::b #1.jpg",
    ):
        _write(label / "g10" / name)
    _write(label / "G3" / "QC-ABC-20241028-7 x.jpeg")
    _write(label / "g10" / "deeper" / "x.jpg")
    _write(label / ".cache" / "g" / "x.jpg")
    _write(label / "empty" / "readme.md")
    _write(label / "loose.jpg")
    _write(root / MISSION / "待定" / "g1" / "x.jpg")
    _write(root / "其他任务" / "审核通过" / "g1" / "x.jpg")
    _write(root / "in the root.jpg")
    _write(root / "reviews.xlsx")
    return root


def _write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def relative(found: Discovery, root: Place) -> object:
    """All that was found, without the place where it lies."""
    base = f"{root}/"

    def short(text: object) -> str:
        return str(text).replace(base, "").replace(str(root), "<root>")

    groups = [
        (g.mission, g.label, g.group_id, short(g.folder), [i.name for i in g.images]) for g in found.groups
    ]
    skipped = [(short(entry.path), entry.reason, short(entry.detail)) for entry in found.skipped]
    return groups, skipped, [short(warning) for warning in found.warnings]


@pytest.fixture(params=["s3", "memory"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Path], Place]:
    """Puts a tree into a store."""
    if request.param == "s3":
        store: Store = request.getfixturevalue("store")

        def put(folder: Path) -> Place:
            store.put_tree(folder, "photos")
            return store.place("photos")

        return put

    def remember(folder: Path) -> Place:
        root = as_place(f"memory://{tmp_path.name}/photos")
        for path in folder.rglob("*"):
            if path.is_file():
                objects.put_bytes(root / path.relative_to(folder).as_posix(), path.read_bytes())  # type: ignore[arg-type]
        return root

    return remember


@pytest.mark.parametrize("mission", [None, MISSION])
def test_a_tree_in_a_store_is_discovered_as_on_disk(tmp_path, elsewhere, mission):
    local = odd_tree(tmp_path / "photos")
    remote = elsewhere(local)
    here, there = discover_groups(local, mission), discover_groups(remote, mission)
    assert relative(there, remote) == relative(here, local)
    assert len(there.groups) >= 5
    assert len(there.skipped) >= 5


def test_groups_of_a_store_survive_being_written_to_a_table(tmp_path, elsewhere):
    found = discover_groups(elsewhere(odd_tree(tmp_path / "photos")))
    assert tuple(groups_from_table(groups_to_table(found.groups))) == found.groups


def test_the_missions_own_prefix_as_root_stands_for_its_parent(tmp_path, elsewhere):
    root = elsewhere(odd_tree(tmp_path / "photos"))
    found = discover_groups(root / MISSION)
    assert [warning.reason for warning in found.warnings] == ["root_is_mission_folder"]
    assert found.groups == discover_groups(root, MISSION).groups


def test_the_listing_hash_follows_content_and_opens_no_photo(tmp_path, store):
    store.put_tree(odd_tree(tmp_path / "photos"), "photos")
    root = store.place("photos")
    before = discover_groups(root, MISSION).listing_hash()
    assert discover_groups(root, MISSION).listing_hash() == before
    store.put(f"photos/{MISSION}/审核通过/g10/img_2.png", b"y")
    assert discover_groups(root, MISSION).listing_hash() != before
    assert not [asked for asked in store.proxy.asked if asked.method == "GET" and ".jpg" in asked.path]


def many_groups(store: Store, count: int) -> None:
    """Groups of one photo, listed in pages of fifty."""
    for number in range(count):
        store.put(f"photos/{MISSION}/审核通过/g{number}/1.jpg", b"x")
    store.proxy.reset()
    store.proxy.page = 50


def test_listing_costs_a_request_for_a_page_of_photos_not_one_for_each_group(store):
    many_groups(store, 220)
    found = discover_groups(store.place("photos"), MISSION)
    assert len(found.groups) == 220
    found.listing_hash()
    # The root three times, and five pages.
    assert len(store.proxy.asked) <= 3 + 5


def test_keys_that_no_path_can_name_are_skipped_and_told(store):
    label = f"photos/{MISSION}/审核通过"
    store.put(f"{label}/good/1.jpg", b"x")
    store.put(f"{label}/good//2.jpg", b"x")
    store.put(f"{label}/marked/", b"")
    store.put(f"{label}/good::1/1.jpg", b"of another group")
    found = discover_groups(store.place("photos"), MISSION)
    assert [group.group_id for group in found.groups] == ["good"]
    assert sorted(entry.reason for entry in found.skipped) == [
        "empty_group",
        "impossible_name",
        "impossible_name",
    ]
    # http clients resolve `..` before they ask: the reader is handed such a key as a store would list it.
    assert not objects_named(["a/../x.jpg", "../x.jpg", "./x.jpg", "a/x\0.jpg"])


def objects_named(keys: list[str]) -> list[str]:
    """What a reader makes of keys that a store lists."""
    root = as_place("memory://hostile/photos")
    state = objects.ObjectState(1, "v")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects, "everything_below", lambda _: [(f"审核通过/{key}", state) for key in keys])
        patch.setattr(objects, "children", lambda _: [(MISSION, True), ("..", True)])
        return [image.name for group in discover_groups(root, MISSION).groups for image in group.images]


@pytest.mark.parametrize(
    ("key", "told"),
    [("nowhere", "does not exist"), ("photos/file", "is not a folder")],
)
def test_a_root_that_is_none_is_named_with_the_remedy(store, key, told):
    store.put("photos/file", b"x")
    with pytest.raises(DiscoveryError, match=rf"input root {store.url}/{key} {told}.*STAGE_A_INPUT_ROOT"):
        discover_groups(store.place(key))


def test_a_missing_bucket_is_named(store):
    with pytest.raises(DiscoveryError, match=r"does not exist.*bucket does not exist"):
        discover_groups("s3://there-is-no-such-bucket/photos")


def test_a_root_that_is_denied_is_named_with_what_is_needed(store):
    store.put(f"photos/{MISSION}/审核通过/g/1.jpg", b"x")
    store.proxy.fail_always("denied", "list-type")
    with pytest.raises(DiscoveryError, match=r"cannot be listed: the store denies it.*may list and get"):
        discover_groups(store.place("photos"))


def test_a_mission_that_is_denied_is_skipped_as_a_locked_folder_is(store):
    store.put(f"photos/{MISSION}/审核通过/g/1.jpg", b"x")
    store.proxy.fail_always("denied", f"prefix=photos/{MISSION}")
    found = discover_groups(store.place("photos"), MISSION)
    assert [entry.reason for entry in found.skipped] == ["unreadable"]
    with pytest.raises(DiscoveryError, match="no group of photos"):
        found.require_groups()


def test_a_store_that_fails_in_the_middle_of_a_listing_never_passes_for_a_smaller_tree(store):
    many_groups(store, 60)
    store.proxy.fail_always("down", "continuation-token")
    with pytest.raises(StoreError, match=r"cannot be listed.*run again once the store can be reached"):
        discover_groups(store.place("photos"), MISSION)


def test_a_page_that_is_throttled_is_asked_for_again(store):
    many_groups(store, 60)
    store.proxy.fail_first(1, "busy", "GET", "continuation-token")
    assert len(discover_groups(store.place("photos"), MISSION).groups) == 60
