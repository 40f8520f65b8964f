"""The folders that actors have on their host."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stage_a_pipeline.cluster.host import Host
from stage_a_pipeline.cluster.messages import Failed
from stage_a_pipeline.cluster.scratch import Scratch, photos_beside
from stage_a_pipeline.errors import OutputError
from tests.cluster.conftest import brief_of

LIVE = (
    "from stage_a_pipeline.cluster.scratch import Scratch; scratch = Scratch(); "
    "print(scratch.folder, flush=True); input()"
)


@pytest.fixture(autouse=True)
def hosts(tmp_path, monkeypatch):
    """The folder of all actors on this machine."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path / f"stage-a-hosts-{os.getuid()}"


def test_what_a_killed_actor_has_left_is_removed_by_the_next_and_a_living_one_keeps_its_folder(hosts):
    living = Scratch()
    with subprocess.Popen([sys.executable, "-c", LIVE], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout is not None
        left = other.stdout.readline().strip()
        beside_the_living = Scratch()
        assert len(list(hosts.iterdir())) == 3
        other.kill()
    assert Path(left).is_dir()
    next_one = Scratch()
    assert {living.folder, beside_the_living.folder, next_one.folder} == set(hosts.iterdir())


def test_actors_share_the_photos_of_their_host_which_the_last_removes(hosts):
    one, other = Scratch(), Scratch()
    assert photos_beside(one.folder) == photos_beside(other.folder)
    photos_beside(one.folder).mkdir()
    one.remove()
    assert photos_beside(other.folder).is_dir()
    other.remove()
    assert list(hosts.iterdir()) == []


def test_nobody_else_may_read_in_it(hosts):
    hosts.mkdir(mode=0o755)
    scratch = Scratch()
    assert [folder.stat().st_mode & 0o777 for folder in (hosts, scratch.folder)] == [0o700, 0o700]


def test_a_folder_that_somebody_else_has_put_there_is_refused_and_left_alone(hosts, tmp_path, task):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "of somebody").mkdir(parents=True)
    hosts.symlink_to(elsewhere)
    with pytest.raises(OutputError, match=r"is no folder of this user.*TMPDIR"):
        Scratch()
    answer = Host().set_up(brief_of(task()), b"")
    assert isinstance(answer, Failed)
    assert answer.message.startswith("host ")
    assert (elsewhere / "of somebody").is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
def test_a_folder_of_another_user_is_refused(hosts):
    hosts.mkdir()
    os.chown(hosts, 12345, 12345)
    with pytest.raises(OutputError, match="is no folder of this user"):
        Scratch()
