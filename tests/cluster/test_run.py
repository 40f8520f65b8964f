"""A mission's photos on three Ray nodes: the same bytes, whatever dies."""

import hashlib
import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from stage_a_pipeline.cluster.connection import connected
from stage_a_pipeline.cluster.run import _seen_here, run_anywhere
from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.errors import ClusterError, ConfigurationError, PhotoError
from stage_a_pipeline.inference.asking import Audience
from stage_a_pipeline.inference.batching import deal_out
from stage_a_pipeline.inference.conclusions import unreadable
from stage_a_pipeline.photo_source import ON_DISK
from stage_a_pipeline.settings_cluster import ClusterSettings
from tests.cluster.conftest import NODE, PHOTOS, Heard, host_workers, photos_done
from tests.conftest import MISSION, write_groups
from tests.defs.conftest import materialiser
from tests.faults.conftest import HERE, Workplace, finish, gone, wait_until


def run(task, tmp_path, heard=None, each_time=None):
    """The run's rows; `each_time` is called as the run tells how far it is."""
    heard = heard or Heard()
    audience = replace(heard.audience, progress=each_time or heard.progress.append)
    table, metrics = run_anywhere(task, [], tmp_path / "task", audience)
    return table.read().to_pylist(), metrics, heard


@pytest.fixture
def workplace(tmp_path, monkeypatch, nodes):
    """Thirty photos, and settings that have them asked on the cluster."""
    workplace = Workplace(tmp_path, monkeypatch)
    write_groups(workplace.root, MISSION, {"fail": [3, 1, 4, 2, 5], "pass": [4, 2, 3, 5, 1]})
    yield workplace
    workplace.clear_up()


def on_cluster(nodes, **settings):
    return {"address": nodes.address, "photos_per_shard": 4, **settings}


def without_the_cluster(workplace):
    """What the same photos become on this machine alone."""
    workplace.configure(inference=HERE, output={"output_dir": "alone"})
    assert workplace.run_here().code == 0
    return workplace.published()


def test_the_jsonl_of_three_nodes_is_that_of_one_process_byte_for_byte(tmp_path, nodes, capfd):
    root = write_groups(tmp_path / "in", MISSION, {"fail": [2, 1], "pass": [3, 2]})
    engine = {"engine": "refill", "dtype": "float32", "batch_size": 4, "max_new_tokens": 96}
    written = {}
    for place, cluster in (("alone", {}), ("cluster", on_cluster(nodes, photos_per_shard=2, actors=3))):
        (tmp_path / place).mkdir()
        run = materialiser(tmp_path / place)(root, engine=engine, cluster=cluster)
        assert run.success
        written[place] = next((tmp_path / place).rglob(f"{MISSION}_stage_a.jsonl")).read_bytes()
    assert len(photos_done(capfd.readouterr().err)) > 1
    assert written["cluster"] == written["alone"]
    assert written["alone"].count(b"\n") == 4


def test_hosts_fetch_photos_from_an_object_store_by_themselves(tmp_path, nodes, store, capfd):
    store.put_tree(write_groups(tmp_path / "in", MISSION, {"fail": [2, 1], "pass": [3]}), "in")
    (tmp_path / "slow.toml").write_text("seconds_per_batch = 1.0\n", "utf-8")
    slow = {"fake_faults": str(tmp_path / "slow.toml"), "batch_size": 1}
    for place, root, engine, cluster in (
        ("alone", tmp_path / "in", {}, {}),
        ("cluster", f"{store.url}/in", slow, on_cluster(nodes, photos_per_shard=2, actors=2)),
    ):
        (tmp_path / place).mkdir()
        assert materialiser(tmp_path / place)(root, engine=engine, cluster=cluster).success
    assert len(photos_done(capfd.readouterr().err)) == 2
    alone, cluster = (next((tmp_path / place).rglob("*_stage_a.jsonl")) for place in ("alone", "cluster"))
    assert cluster.read_bytes() == alone.read_bytes()


def test_a_store_that_a_host_cannot_read_for_a_while_costs_no_photo_and_no_actor(
    tmp_path, task, nodes, store, monkeypatch
):
    monkeypatch.setattr("stage_a_pipeline.cluster.actors._RESTS_SECONDS", (0.5, 0.5))
    store.put_tree(tmp_path / "in", "in")
    groups = discover_groups(store.place("in"), MISSION).groups
    given = task(discovery={"input_root": f"{store.url}/in"}, cluster=on_cluster(nodes, actors=1))
    refs = deal_out(enumerate(groups), shards=1, mode="per_group")[0]

    class Weather(Heard):
        """The store is away from when the first actor has come until it is left alone."""

        @property
        def audience(self):
            return Audience(self.progress.append, self.warn, self.tell)

        def tell(self, sentence):
            if sentence.startswith("actor-1 is ready"):
                store.proxy.fail_always("denied", "")

        def warn(self, sentence):
            self.warnings.append(sentence)
            store.proxy.reset()

    rows, metrics, heard = run(
        replace(given, shard=replace(given.shard, refs=refs), groups=groups), tmp_path, Weather()
    )
    assert (metrics.rejected, len(rows)) == (0, PHOTOS)
    (warning,) = heard.warnings
    assert re.match(r"actor-1 is replaced in 0 s: host .*cannot be read any more", warning)


def test_a_node_killed_in_the_middle_costs_no_photo_and_doubles_none(workplace, nodes):
    settings = {"cluster": on_cluster(nodes, actors=3), "engine": {"batch_size": 1}}
    workplace.configure("seconds_per_photo = 0.2\n", **settings)
    process = workplace.start("stage-a", "materialize", "--mission", MISSION, "--verbose")
    workplace.wait_for_answers(8, process)
    nodes.remove_node(node_at_work(nodes, workplace, process), allow_graceful=False)
    ended = finish(process)
    nodes.add_node(**NODE)
    assert ended.code == 0, ended.output
    assert "was lost (Actor" in ended.output
    assert set(workplace.answers().values()) == {1}
    assert workplace.answers().total() == PHOTOS
    assert len(photos_done(ended.output)) > 1
    assert workplace.published() == without_the_cluster(workplace)


def node_at_work(nodes, workplace, process):
    """A node, not that of the head, on which a worker of the run lives."""

    def find():
        busy = {parent.pid for worker in host_workers(below=workplace.folder) for parent in worker.parents()}
        return [node for node in nodes.worker_nodes if raylet(node) in busy]

    wait_until(find, "a worker on another node than the head's", process)
    return find()[0]


def raylet(node):
    (found,) = node.all_processes["raylet"]
    return found.process.pid


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (signal.SIGKILL, -9),
        pytest.param(signal.SIGTERM, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_killed_or_stopped_leaves_no_process_and_goes_on_where_it_was(
    workplace, nodes, ending, code
):
    settings = {"cluster": on_cluster(nodes, actors=2, photos_per_shard=2), "engine": {"batch_size": 1}}
    workplace.configure("seconds_per_photo = 0.2\n", **settings)
    process = workplace.start()
    workplace.wait_for_answers(6, process)
    workers = host_workers(below=workplace.folder)
    assert len(workers) == 2
    process.send_signal(ending)
    ended = finish(process)
    assert ended.code == code, ended.output
    wait_until(lambda: gone(workers), "the end of all workers", seconds=20)
    before, asked = workplace.answers().total(), len(workplace.asked())
    workplace.configure(**settings)
    assert workplace.run().code == 0
    # What stood in the journal was not asked again, on any host.
    assert len(workplace.asked()) - asked == PHOTOS - before
    assert set(workplace.answers().values()) == {1}
    assert workplace.published() == without_the_cluster(workplace)


@pytest.mark.slow
def test_without_the_head_the_run_ends_and_goes_on_where_it_was(tmp_path, monkeypatch):
    from ray.cluster_utils import Cluster

    workplace = Workplace(tmp_path, monkeypatch)
    write_groups(workplace.root, MISSION, {"pass": [4, 4, 4]})
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    # Ray waits a minute for its head unless told otherwise.
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "5")
    workplace.configure(
        "seconds_per_photo = 3.0\n",
        cluster={"address": cluster.address, "photos_per_shard": 1},
        engine={"batch_size": 1},
    )
    process = workplace.start()
    workplace.wait_for_answers(2, process)
    cluster.head_node.kill_gcs_server()
    ended = finish(process)
    cluster.shutdown()
    assert ended.code == 1
    assert "GCS may have been killed" in ended.output
    assert not workplace.jsonl.exists()
    answered = workplace.answers().total()
    assert 2 <= answered < 12
    workplace.configure(inference=HERE)
    asked = len(workplace.asked())
    assert workplace.run_here().code == 0
    assert len(workplace.asked()) - asked == 12 - answered
    workplace.clear_up()


@pytest.mark.slow
def test_a_photo_with_which_every_actor_dies_is_left_out_and_remembered(tmp_path, task, asked, groups, nodes):
    match = f"{groups[1].group_id}/IMG_1.jpg"
    hang = f'[[fault]]\nmatch = "{match}*"\nkind = "hang"\n'
    given = task(hang, run_id="poison", cluster=on_cluster(nodes, actors=1, photos_per_shard=1))
    heard, killed = Heard(), []

    def kill_the_actor_that_asks(progress):
        if sum(name.startswith(match) for name in asked()) > len(killed):
            (worker,) = host_workers("poison")
            killed.append(worker.ppid())
            os.kill(worker.ppid(), signal.SIGKILL)

    rows, _, _ = run(given, tmp_path, heard, kill_the_actor_that_asks)
    assert len(killed) == 3
    assert [row["reason"] for row in rows if row["status"] == "rejected"] == ["crashed"]
    assert len(rows) == PHOTOS
    times = len(asked())
    for place in ("there", "here"):
        again = task(hang, run_id=place, cluster=on_cluster(nodes, actors=1) if place == "there" else {})
        rows, metrics, heard = run(again, tmp_path)
        assert (metrics.inferred, len(asked())) == (0, times)
        assert [row["reason"] for row in rows if row["reason"]] == ["crashed"]


@pytest.mark.slow
def test_an_actor_that_hangs_is_replaced_and_a_run_that_was_stopped_blames_nobody(tmp_path, task, nodes):
    settings = {
        "cluster": on_cluster(nodes, actors=2, photos_per_shard=1),
        "inference": {"stall_seconds": 15.0},
        "engine": {"batch_size": 1},
    }
    given, heard = task("seconds_per_photo = 0.5\n", run_id="hang", **settings), Heard()

    def disturb():
        """Steps, one for each time that the run tells how far it is."""
        while heard.progress[-1].done < 4:
            yield
        (actor,) = {worker.ppid() for worker in host_workers("hang")[:1]}
        os.kill(actor, signal.SIGSTOP)
        stopped = time.monotonic()
        while time.monotonic() < stopped + 3:
            yield
        # Now the run itself is silent, with a question to that actor on its way.
        os.kill(actor, signal.SIGCONT)
        time.sleep(16)
        yield
        assert heard.warnings == []
        os.kill(actor, signal.SIGSTOP)
        while True:
            yield

    steps = disturb()

    def each_time(progress):
        heard.progress.append(progress)
        next(steps)

    rows, _, _ = run(given, tmp_path, heard, each_time)
    assert {row["status"] for row in rows} == {"summarised"}
    assert len(rows) == PHOTOS
    assert sum("gave no sign of life for 15 s" in warning for warning in heard.warnings) == 1


def test_a_host_that_does_not_see_the_photos_is_named_and_nothing_is_rejected(
    tmp_path, task, nodes, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stage_a_pipeline.cluster.actors._RESTS_SECONDS", (0.1, 0.2))
    given, heard = task(cluster=on_cluster(nodes, actors=2)), Heard()
    # A path that leads elsewhere for every process with another working directory.
    groups = [moved(group, tmp_path, Path("/proc/self/cwd")) for group in given.groups]
    refs = [replace(ref, group=groups[ref.group_index]) for ref in given.shard.refs]
    with pytest.raises(ClusterError, match=r"left: host .*/proc/self/cwd/.*mount the photos"):
        run(replace(given, shard=replace(given.shard, refs=refs), groups=groups), tmp_path, heard)
    assert sum(" is replaced in 0 s: host " in warning for warning in heard.warnings) == 4
    assert run(task(), tmp_path)[1].rejected == 0


@pytest.mark.parametrize(
    ("seen", "told"), [(None, "can read it"), ("e3b0", "reads other bytes"), ("the same", None)]
)
def test_a_photo_is_rejected_for_the_bytes_that_this_machine_reads_as_well(tmp_path, task, seen, told):
    ref = task().shard.refs[0]
    here = hashlib.sha256(ref.image.path.read_bytes()).hexdigest()
    rejection = unreadable(ref, PhotoError("truncated", "ends early"), here if seen == "the same" else seen)
    cause = _seen_here([rejection], ON_DISK)
    assert cause == (told and f"ends early; this machine {told}: mount the photos there under the same path")


def moved(group, old, new):
    folder = new / group.folder.relative_to(old)
    images = tuple(replace(image, folder=folder) for image in group.images)
    return replace(group, folder=folder, images=images)


def test_a_cluster_without_room_for_an_actor_is_told_with_what_it_has(tmp_path, task, nodes):
    given = task(cluster=on_cluster(nodes, cpus_per_actor=64, start_seconds=2))
    with pytest.raises(ClusterError, match=r"within 2 s; each needs 64 CPU and 0 GPU.*1 CPU 0 GPU, 1 CPU"):
        run(given, tmp_path)


def test_fewer_actors_than_asked_for_work_and_say_so_and_nodes_may_join_later(
    tmp_path, task, nodes, monkeypatch
):
    monkeypatch.setattr("stage_a_pipeline.cluster.actors._TELL_SECONDS", 0.0)
    heard, slow = Heard(), "seconds_per_photo = 0.7\n"

    def join(progress):
        if heard.warnings and len(nodes.worker_nodes) == 2:
            nodes.add_node(wait=False, **NODE)

    given = task(slow, cluster=on_cluster(nodes, actors=5, photos_per_shard=1), engine={"batch_size": 1})
    rows, metrics, _ = run(given, tmp_path, heard, join)
    nodes.remove_node(list(nodes.worker_nodes)[-1])
    assert len(rows) == metrics.inferred == PHOTOS
    assert any(" of 5 actors have started" in warning for warning in heard.warnings)
    assert len(photos_done("\n".join(heard.log))) == 4


def test_another_cluster_than_the_one_the_process_is_connected_to_is_refused(tmp_path, task, nodes):
    import ray

    ray.init(address=nodes.address, log_to_driver=False)
    try:
        for address in ("127.0.0.1:1", "ray://192.0.2.1:10001"):
            with pytest.raises(ConfigurationError, match=rf"is {address}, and .* cluster {nodes.address}"):
                run(task(cluster={"address": address}), tmp_path)
        for address in (nodes.address.replace("127.0.0.1", "localhost"), "auto"):
            with connected(ClusterSettings(address=address)) as found:
                assert found.is_initialized()
        assert ray.is_initialized()
    finally:
        ray.shutdown()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_cluster_that_nobody_listens_for_is_named_at_once(tmp_path, task, address):
    started = time.monotonic()
    with pytest.raises(ClusterError, match=rf"the Ray cluster {address} cannot be reached"):
        run(task(cluster={"address": address}), tmp_path)
    assert time.monotonic() - started < 10
