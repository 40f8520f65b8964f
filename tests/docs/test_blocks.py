"""What stands in the fenced blocks of the pages: labelled, parsed, and known to the programs it is for."""

from __future__ import annotations

import ast
import importlib
import json
import re
import tomllib

import pytest
import yaml

from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.settings import Settings, load_settings
from tests.docs.pages import LANGUAGES, PAGES, REASONS, ROOT, SPHINX, all_blocks

BLOCKS = all_blocks()
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))


def of(language):
    return [pytest.param(block, id=block.place) for block in BLOCKS if block.language == language]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_fence_of_a_page_is_found(page):
    fences = re.findall(r"^ *```", page.read_text("utf-8"), re.M)
    assert len(fences) == 2 * sum(block.page == page for block in BLOCKS)


def test_every_block_says_what_it_is():
    unlabelled = [b.place for b in BLOCKS if b.language not in LANGUAGES and not SPHINX.fullmatch(b.language)]
    assert unlabelled == []


def test_only_commands_and_python_are_left_out_and_only_for_a_reason_of_the_list():
    for block in BLOCKS:
        if block.not_run is not None:
            assert block.language in {"sh", "python"}, block.place
            assert block.not_run.split(";")[0] in REASONS, f"{block.place}: {block.not_run}"


def test_every_test_that_is_named_for_a_block_that_is_left_out_exists():
    for block in BLOCKS:
        for path in re.findall(r"tests/\S+\.py", block.not_run or ""):
            assert (ROOT / path).exists(), f"{block.place}: {path}"


@pytest.mark.parametrize("block", of("toml"))
def test_toml_is_settings_or_missions_that_can_be_loaded(block, tmp_path):
    path = tmp_path / "block.toml"
    path.write_text(block.text, "utf-8")
    document = tomllib.loads(block.text)
    if set(document) <= set(Settings.model_fields):
        load_settings(environ={}, settings_file=path)
    elif "mission" in document:
        assert set(load_missions(path)) >= {mission["name"] for mission in document["mission"]}
    else:
        assert block.file is not None, f"{block.place}: neither settings nor missions"


@pytest.mark.parametrize("block", of("json"))
def test_json_is_a_document_or_one_per_line(block):
    try:
        json.loads(block.text)
    except json.JSONDecodeError:
        for line in block.text.splitlines():
            json.loads(line)


@pytest.mark.parametrize("block", of("yaml"))
def test_yaml_can_be_read(block):
    assert yaml.safe_load(block.text)


@pytest.mark.parametrize("block", of("python"))
def test_what_python_imports_of_the_project_exists(block):
    imports = [node for node in ast.walk(ast.parse(block.text)) if isinstance(node, ast.ImportFrom)]
    for node in imports:
        if node.module.startswith("stage_a_pipeline"):
            module = importlib.import_module(node.module)
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


MADE = [
    pytest.param(line.split(" #")[0], id=f"{block.place} {line.split(' #')[0].strip()}")
    for block in BLOCKS
    if block.language == "sh"
    for line in block.commands()
    if line.startswith("make ")
]


@pytest.mark.parametrize("line", MADE)
def test_make_s_targets_exist(line):
    assert {word for word in line.split()[1:] if "=" not in word and word[0] != "-"} <= TARGETS
