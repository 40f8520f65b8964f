"""`.ci/run` never passes for want of a program."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "run"


@pytest.fixture
def run(tmp_path):
    """Run the script where these programs are and no others, as a user who cannot install any."""
    for tool in ("bash", "dirname"):
        (tmp_path / tool).symlink_to(shutil.which(tool))

    def with_programs(**programs):
        for name, script in {"id": "echo 1000", "make": "echo made $*", **programs}.items():
            program = tmp_path / name.replace("_", "-")
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)
        return subprocess.run(
            [SCRIPT], env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True, check=False
        )

    return with_programs


def test_without_a_browser_it_fails_and_says_what_to_install(run):
    done = run(initdb="")
    assert done.returncode == 1
    assert "not installed: chromium fonts-noto-cjk\n" in done.stderr
    assert "made" not in done.stdout


def test_packages_that_cannot_be_installed_are_named(run):
    done = run(initdb="", id="echo 0", apt_get="echo 'no network' >&2; exit 100")
    assert done.returncode == 1
    assert "no network" in done.stderr
    assert "not installed: chromium" in done.stderr


def test_with_both_it_checks_and_tests(run):
    assert run(initdb="", chromium="").stdout == "made --jobs=2 lint test\n"
