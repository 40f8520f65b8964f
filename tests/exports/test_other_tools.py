"""What is exported, opened by the real FiftyOne and the real Label Studio server.

`make test-exports` runs this with both in an environment of its own, named by EXPORTS_VENV.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.exports.conftest import HOSTILE, ODD, RRU, SCRIPT, STATISTICS, Workplace

VENV = os.environ.get("EXPORTS_VENV", "")

pytestmark = [
    pytest.mark.exports,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        not VENV, reason="EXPORTS_VENV names no environment of other tools; run `make test-exports`"
    ),
]

PHOTOS = 2 + len(HOSTILE) + 2
DOCUMENT = Path(__file__).parents[2] / "docs" / "exports.md"
TOKEN = "0123456789abcdef0123456789abcdef01234567"
STARTS_WITHIN = 900.0


def quiet(home: Path) -> dict[str, str]:
    """An environment in which neither tool calls home or reads what a user has set."""
    home.mkdir(exist_ok=True)
    path = f"{VENV}/bin:{os.environ['PATH']}"
    return {
        "PATH": path, "HOME": str(home), "LANG": "C.UTF-8", "FIFTYONE_DO_NOT_TRACK": "1",
        "FIFTYONE_SHOW_PROGRESS_BARS": "0", "COLLECT_ANALYTICS": "False", "SENTRY_DSN": "",
        "LATEST_VERSION_CHECK": "False",
    }  # fmt: skip


DESCRIBE = """
import json, os, sys
import fiftyone as fo
found = []
for folder in sys.argv[1:]:
    dataset = fo.Dataset.from_dir(dataset_dir=folder, dataset_type=fo.types.FiftyOneDataset)
    dataset.compute_metadata()
    found.append({
        "schema": {name: type(field).__name__ for name, field in dataset.get_field_schema().items()},
        "labels": dataset.count_values("label.label"),
        "kinds": dataset.count_values("kind.label"),
        "missions": dataset.count_values("mission"),
        "attributes": dataset.count_values("attributes.classifications.label"),
        "counts": dataset.sum("attributes.classifications.count"),
        "rejected": dataset.match_tags("rejected").values("rejected_reason"),
        "files": [os.path.isfile(path) for path in dataset.values("filepath")],
        "sizes": [[metadata.width, metadata.height] for metadata in dataset.values("metadata")],
        "summaries": dataset.values("summary"),
        "images": dataset.values("image"),
        "reasons": dataset.match(fo.ViewField("label.label") == "fail").values("fail_reasons"),
        "remarks": dataset.values("remarks"),
    })
print("FOUND " + json.dumps(found))
"""


@pytest.fixture(scope="module")
def imported(hostile: Workplace, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What FiftyOne's importer makes of an export with places of photos, and of one with copies."""
    folders = [
        hostile.exported("fiftyone", "--with-rejected", "--images", images, to=f"fiftyone-{images}")
        for images in ("none", "copy")
    ]
    done = subprocess.run(
        [f"{VENV}/bin/python", "-c", DESCRIBE, *map(str, folders)],
        env=quiet(tmp_path_factory.mktemp("fiftyone") / "home"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (told,) = re.findall("^FOUND (.*)$", done.stdout, re.M)
    return json.loads(told)


def test_fiftyone_finds_the_fields_the_labels_and_the_photos(imported):
    for found in imported:
        assert found["missions"] == {RRU: 3, ODD: PHOTOS - 2}
        assert found["labels"] == {"fail": 2 + len(HOSTILE), "pass": 2 + 1}
        assert found["files"] == [True] * (PHOTOS + 1)
        assert found["sizes"] == [[96, 64]] * (PHOTOS + 1)
        assert found["schema"]["label"] == "EmbeddedDocumentField"
        assert found["schema"]["group_number"] == "IntField"
        assert set(found["images"]) > set(HOSTILE)
        assert found["rejected"] == ["truncated"]


def test_fiftyone_reads_what_the_summaries_say(imported):
    statistics = sum(summary == STATISTICS for summary in imported[0]["summaries"])
    for found in imported:
        assert found["kinds"]["irrelevant"] == sum(summary == "无关图片" for summary in found["summaries"])
        assert found["attributes"]["BBU设备.品牌: 华为"] == statistics
        assert found["counts"] == statistics * (2 + 1 + 1) + 2
        assert SCRIPT in found["summaries"]
        assert ["无法判断"] in found["remarks"]
        assert ["螺丝 <松动>", "b"] in found["reasons"]


def documented(library: str) -> str:
    """The Python of docs/exports.md that uses the library."""
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.S)
    (code,) = [block for block in blocks if f"import {library}" in block or f"from {library}" in block]
    return code


def test_the_documented_python_for_fiftyone_runs(hostile, tmp_path):
    hostile.exported("fiftyone", to=tmp_path / "demo_run" / "exports" / "fiftyone")
    done = subprocess.run(
        [f"{VENV}/bin/python", "-c", documented("fiftyone")],
        env=quiet(tmp_path / "home"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "photos of failed groups say" in done.stdout


@dataclass(frozen=True)
class Server:
    """A Label Studio of its own, with nothing in it."""

    client: httpx.Client

    def project(self, config: str) -> int:
        answer = self.client.post("/api/projects", json={"title": "exported", "label_config": config})
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]


@pytest.fixture(scope="module")
def server(hostile: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    base = tmp_path_factory.mktemp("label-studio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        f"{VENV}/bin/label-studio", "start", "--no-browser", "--data-dir", str(base / "data"),
        "--port", str(port), "--internal-host", "127.0.0.1", "--username", "tester@example.com",
        "--password", "for-this-test-only", "--user-token", TOKEN, "--enable-legacy-api-token",
    ]  # fmt: skip
    local_files = {
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(hostile.root.parent),
    }
    with (
        (base / "log").open("wb") as log,
        subprocess.Popen(command, env=quiet(base / "home") | local_files, stdout=log, stderr=log) as process,
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Token {TOKEN}"}, timeout=60
        ) as client,
    ):
        try:
            wait_for(client, process, base / "log")
            yield Server(client)
        finally:
            process.terminate()


def wait_for(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text("utf-8", "replace")[-3000:]
        try:
            if client.get("/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise AssertionError(f"no answer within {STARTS_WITHIN} s: {log.read_text('utf-8', 'replace')[-3000:]}")


@pytest.fixture(scope="module")
def tasks(hostile: Workplace, server: Server) -> list[dict]:
    """The tasks that the server has after it has imported an export, as it shows them."""
    folder = hostile.exported("label-studio", "--with-rejected", to="label-studio")
    project = server.project((folder / "labelling_config.xml").read_text("utf-8"))
    storage = {"project": project, "path": str(hostile.root), "use_blob_urls": True, "title": "photos"}
    answer = server.client.post("/api/storages/localfiles", json=storage)
    assert answer.status_code == 201, answer.text
    with (folder / "tasks-001.json").open("rb") as file:
        answer = server.client.post(
            f"/api/projects/{project}/import", files={"file": ("tasks-001.json", file, "application/json")}
        )
    assert answer.status_code == 201, answer.text
    assert answer.json()["task_count"] == PHOTOS + 1
    shown = server.client.get("/api/tasks", params={"project": project, "page_size": 100, "fields": "all"})
    return shown.json()["tasks"]


def test_label_studio_imports_every_task_with_its_prediction(tasks):
    assert len(tasks) == PHOTOS + 1
    for task in tasks:
        assert len(task["predictions"]) == (0 if task["data"]["rejected_reason"] else 1)
        for prediction in task["predictions"]:
            assert prediction["model_version"] == "站 4b-ffffffffffff"
            (summary,) = [
                result["value"]["text"] for result in prediction["result"] if result["from_name"] == "summary"
            ]
            assert summary == [task["data"]["summary"]]
    assert {task["data"]["image_name"] for task in tasks} > set(HOSTILE)


def test_label_studio_serves_the_photo_of_every_task(hostile, server, tasks):
    for task in tasks:
        answer = server.client.get(task["data"]["image"])
        assert answer.status_code == 200, task["data"]["path"]
        assert answer.content == (hostile.root / task["data"]["path"]).read_bytes()


def test_the_documented_python_for_label_studio_runs(hostile, server, tmp_path, monkeypatch):
    hostile.exported("label-studio", to=tmp_path / "demo_run" / "exports" / "label-studio")
    # The server's document root is the folder above the input root, whatever the example calls it.
    code = documented("label_studio_sdk").replace('Path("demo_run/photos")', f"Path({str(hostile.root)!r})")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABEL_STUDIO_URL", str(server.client.base_url))
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    names: dict[str, object] = {}
    exec(compile(code, "docs/exports.md", "exec"), names)
    project = server.client.get(f"/api/projects/{names['project'].id}").json()
    assert (project["task_number"], project["total_predictions_number"]) == (PHOTOS, PHOTOS)
