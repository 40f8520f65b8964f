"""What the documents say about settings and files is what the code does."""

import re
from pathlib import Path

import pytest

from stage_a_pipeline.settings import ENVIRONMENT, SETTINGS_VARIABLE, Settings

ROOT = Path(__file__).parents[1]
RUNBOOK = ROOT / "docs" / "runbook.md"
BEGIN, END = "<!-- settings: begin -->\n", "<!-- settings: end -->"


def settings_table() -> str:
    """Every setting as the runbook lists it. `python -m tests.test_docs` writes it there."""
    lines = []
    for section, field in Settings.model_fields.items():
        model = field.default
        lines += ["", f"### `[{section}]`", "", (type(model).__doc__ or "").strip().split("\n")[0], ""]
        lines += ["| key | default | meaning |", "|---|---|---|"]
        for key, setting in type(model).model_fields.items():
            default = setting.default
            shown = (
                "unset" if default is None else ", ".join(default) if isinstance(default, tuple) else default
            )
            shown = str(shown).lower() if isinstance(default, bool) else shown
            lines.append(f"| `{key}` | {shown} | {setting.description or key.replace('_', ' ')} |")
    return "\n".join([*lines, "", ""])


def test_the_runbook_lists_every_setting():
    _, _, rest = RUNBOOK.read_text("utf-8").partition(BEGIN)
    assert rest.partition(END)[0] == settings_table(), "run `python -m tests.test_docs`"


def test_every_setting_is_described():
    for section, field in Settings.model_fields.items():
        for key, setting in type(field.default).model_fields.items():
            assert setting.description, f"{section}.{key}"


@pytest.mark.parametrize("variable", [SETTINGS_VARIABLE, *ENVIRONMENT])
def test_the_runbook_lists_every_environment_variable(variable):
    assert f"`{variable}`" in RUNBOOK.read_text("utf-8")


def test_links_between_documents_lead_somewhere():
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


if __name__ == "__main__":
    head, _, rest = RUNBOOK.read_text("utf-8").partition(BEGIN)
    RUNBOOK.write_text(f"{head}{BEGIN}{settings_table()}{END}{rest.partition(END)[2]}", "utf-8")
