"""What the documents say about settings and files is what the code does."""

import ast
import re
import shlex
from pathlib import Path

import click
import pytest

from stage_a_pipeline.cli import main
from stage_a_pipeline.settings import ENVIRONMENT, SETTINGS_VARIABLE, Settings
from tests.docs.pages import PAGES

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "Makefile", *PAGES]
SETTINGS_PAGE = ROOT / "docs" / "settings.md"
BEGIN, END = "<!-- settings: begin -->\n", "<!-- settings: end -->"


def settings_table() -> str:
    """Every setting as its page lists it. `python -m tests.test_docs` writes it there."""
    lines = []
    for section, field in Settings.model_fields.items():
        model = field.default
        lines += ["", f"## `[{section}]`", "", (type(model).__doc__ or "").strip().split("\n")[0], ""]
        lines += ["| key | default | meaning |", "|---|---|---|"]
        for key, setting in type(model).model_fields.items():
            default = setting.default
            shown = ", ".join(map(str, default)) if isinstance(default, tuple) else default
            shown = "unset" if default in (None, ()) else shown
            shown = str(shown).lower() if isinstance(default, bool) else shown
            lines.append(f"| `{key}` | {shown} | {setting.description or key.replace('_', ' ')} |")
    return "\n".join([*lines, "", ""])


def test_the_page_of_settings_lists_every_one():
    _, _, rest = SETTINGS_PAGE.read_text("utf-8").partition(BEGIN)
    assert rest.partition(END)[0] == settings_table(), "run `python -m tests.test_docs`"


def test_every_setting_is_described():
    for section, field in Settings.model_fields.items():
        for key, setting in type(field.default).model_fields.items():
            assert setting.description, f"{section}.{key}"


@pytest.mark.parametrize("variable", [SETTINGS_VARIABLE, *ENVIRONMENT])
def test_the_page_of_settings_lists_every_environment_variable(variable):
    assert f"`{variable}`" in SETTINGS_PAGE.read_text("utf-8")


def documented_commands() -> list[str]:
    """Every `stage-a ...` that a document shows, without its prompt, path and comment."""
    found = []
    for document in DOCUMENTS:
        for line in re.findall(
            r"(?:^|`|\t|\w=\S+ )(?:\.venv[a-z-]*/bin/)?(stage-a [^`#\n]+)", document.read_text("utf-8"), re.M
        ):
            found.append(line.strip())
    return sorted(set(found))


@pytest.mark.parametrize("line", documented_commands())
def test_documented_commands_and_their_options_exist(line):
    command: click.Command = main
    words = shlex.split(line)[1:]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        assert name in command.commands, f"{line}: no command {name}"
        command = command.commands[name]
    spelled = (option for each in command.params for option in (*each.opts, *each.secondary_opts))
    known = {*spelled, "--help"}
    assert {word for word in words if word.startswith("--")} <= known, line


def anchors(page: Path) -> set[str]:
    """The places of a page that GitHub and the site make of its headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.M)
    # A link counts by its words.
    words = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in words}


def test_links_between_documents_lead_somewhere():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^):]+)\)", document.read_text("utf-8")):
            path, _, anchor = target.partition("#")
            page = document.parent / path if path else document
            assert page.exists(), f"{document.name} links to {target}"
            assert not anchor or anchor in anchors(page), f"{document.name} links to {target}"


def test_extras_are_installed_from_the_project_s_folder():
    """The package is in no index, where others might take its name."""
    told = [*DOCUMENTS, *(ROOT / "examples").glob("*.py"), *(ROOT / "stage_a_pipeline").rglob("*.py")]
    assert [path.name for path in told if "stage-a-pipeline[" in path.read_text("utf-8")] == []


RELIABILITY = ROOT / "docs" / "reliability.md"


def promised() -> list[list[str]]:
    """The tests that hold each promise on the reliability page, one list per row."""
    rows = [line for line in RELIABILITY.read_text("utf-8").splitlines() if line.startswith("|")]
    return [re.findall(r"`([^`]+\.py::[^`]+)`", row.split("|")[3]) for row in rows[2:]]


def functions_of(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


def test_every_promise_is_held_by_a_test_that_exists():
    assert len(promised()) > 30
    for tests in promised():
        assert tests, "a promise that no test holds"
        for test in tests:
            file, name = test.split("::")
            assert name in functions_of(ROOT / "tests" / file), test


def test_every_test_of_the_fault_suite_holds_a_promise():
    told = {test for tests in promised() for test in tests}
    for path in sorted((ROOT / "tests" / "faults").glob("test_*.py")):
        written = {name for name in functions_of(path) if name.startswith("test_")}
        assert {f"faults/{path.name}::{name}" for name in written} <= told


if __name__ == "__main__":
    head, _, rest = SETTINGS_PAGE.read_text("utf-8").partition(BEGIN)
    SETTINGS_PAGE.write_text(f"{head}{BEGIN}{settings_table()}{END}{rest.partition(END)[2]}", "utf-8")
