"""Imports go one way, dagster stays in its rooms, and heavy libraries load when they are used."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import stage_a_pipeline

PACKAGE = Path(stage_a_pipeline.__file__).parent

LAYERS = (
    {
        "__init__",
        "errors",
        "vocabulary",
        "colours",
        "model_json",
        "photo_headers",
        "photo_sizes",
        "repetition",
        "jpeg_segments",
        "folders",
        "harmless_text",
        "places",
        "settings_layers",
        "cli_options",
        "svg",
        "bar_picture",
        "torch_threads",
    },
    {"records", "toml_file"},
    {
        "missions",
        "settings",
        "settings_automation",
        "settings_cluster",
        "settings_engine",
        "settings_grpo",
        "settings_paths",
        "settings_reassembly",
        "settings_report",
        "settings_sections",
        "settings_telemetry",
        "storage",
    },
    {
        "cleaning",
        "discovery",
        "fail_reasons",
        "images",
        "input_root",
        "jsonl",
        "photo_source",
        "prompts",
        "rejected_lines",
        "sampling",
        "summary_content",
        "table_files",
        "table_schemas",
        "tables",
        "telemetry",
        "workbook",
    },
    {"engines"},
    {"exports", "stage_b", "reassembly", "report", "run_comparison", "demo"},
    {"inference"},
    {
        "adapters",
        "arrivals",
        "batch_files",
        "cluster",
        "delivery",
        "incidents",
        "status",
        "webhook",
        "bench",
        "evaluation",
    },
    {"defs"},
    {
        "definitions",
        "cli",
        "batch_cli",
        "bench_cli",
        "compare_cli",
        "compare_terminal",
        "demo_learning",
        "demo_tour",
        "export_cli",
        "grpo_cli",
        "grpo_terminal",
        "metrics_cli",
        "reassembly_cli",
        "reassembly_terminal",
        "report_cli",
        "terminal",
    },
)
"""From the bottom up: a room imports from its own layer and those before it."""

RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
BRANCHES = ("exports", "stage_b", "reassembly", "report", "run_comparison", "demo")
DAGSTER_ROOMS = ("defs", "definitions")
HEAVY = ("torch", "transformers", "ray", "vllm")


@dataclass(frozen=True)
class Import:
    """One import in `module`. `deferred` ones, in functions or for type checking, run no code at import."""

    module: str
    imported: str
    deferred: bool


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def room(module: str) -> str:
    return module.split(".")[0]


def imports_of(path: Path) -> Iterator[Import]:
    module = module_name(path)
    todo: list[tuple[ast.AST, bool]] = [(ast.parse(path.read_text("utf-8")), False)]
    while todo:
        node, deferred = todo.pop()
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are written in full"
            for alias in node.names:
                yield Import(module, f"{node.module}.{alias.name}", deferred)
        elif isinstance(node, ast.Import):
            yield from (Import(module, alias.name, deferred) for alias in node.names)
        defers = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        )
        todo += [(child, deferred or defers) for child in ast.iter_child_nodes(node)]


@cache
def all_imports() -> tuple[Import, ...]:
    return tuple(found for path in sorted(PACKAGE.rglob("*.py")) for found in imports_of(path))


@cache
def internal_imports() -> tuple[Import, ...]:
    """Imports of this package's own modules, by module name below the package."""
    modules = {module_name(path) for path in PACKAGE.rglob("*.py")}
    found = []
    for entry in all_imports():
        if room(entry.imported) == PACKAGE.name:
            target = entry.imported.removeprefix(PACKAGE.name).removeprefix(".")
            while target not in modules and "." in target:
                target = target.rpartition(".")[0]
            found.append(Import(entry.module, target if target in modules else "__init__", entry.deferred))
    return tuple(found)


def test_every_module_has_its_layer() -> None:
    rooms = {room(module_name(path)) for path in PACKAGE.rglob("*.py")}
    assert not rooms - set(RANK), "give these modules a layer in LAYERS, and docs/architecture.md a line"


def test_imports_go_from_upper_layers_to_lower_ones() -> None:
    upwards = [
        f"{entry.module} imports {entry.imported}"
        for entry in internal_imports()
        if RANK[room(entry.imported)] > RANK[room(entry.module)]
    ]
    assert upwards == []


def test_no_module_imports_itself_through_others() -> None:
    targets: dict[str, set[str]] = {}
    for entry in internal_imports():
        if not entry.deferred:
            targets.setdefault(entry.module, set()).add(entry.imported)

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for target in targets.get(todo.pop(), ()):
                if target not in seen:
                    seen.add(target)
                    todo.append(target)
        return seen

    assert [module for module in targets if module in reachable(module)] == []


def test_only_defs_and_definitions_import_dagster() -> None:
    users = {room(entry.module) for entry in all_imports() if room(entry.imported).startswith("dagster")}
    assert users == set(DAGSTER_ROOMS)


def test_only_the_cluster_knows_ray_and_only_while_it_runs() -> None:
    users = [entry for entry in all_imports() if room(entry.imported) == "ray"]
    assert {room(entry.module) for entry in users} == {"cluster"}
    assert all(entry.deferred for entry in users)


def test_the_branches_know_neither_inference_nor_dagsters_side() -> None:
    forbidden = {"inference", "cluster", *DAGSTER_ROOMS, "cli", "terminal"}
    crossings = [
        f"{entry.module} imports {entry.imported}"
        for entry in internal_imports()
        if room(entry.module) in BRANCHES and room(entry.imported) in forbidden
    ]
    assert crossings == []


def test_a_module_that_loads_torch_is_itself_imported_within_functions_only() -> None:
    heavy = {entry.module for entry in all_imports() if room(entry.imported) in HEAVY and not entry.deferred}
    eager_imports = [entry for entry in internal_imports() if not entry.deferred]
    # An engine's module may build on another that loads torch: it loads torch as well.
    while more := {
        entry.module
        for entry in eager_imports
        if entry.imported in heavy and room(entry.module) == "engines" and entry.module not in heavy
    }:
        heavy |= more
    assert {room(module) for module in heavy} <= {"engines", "stage_b", "reassembly", "demo"}
    eager = [
        f"{entry.module} imports {entry.imported}"
        for entry in eager_imports
        if entry.imported in heavy and entry.module not in heavy
    ]
    assert eager == []
    assert not heavy & {"engines.__init__", "engines", "engines.base", "engines.refill"}


def test_nothing_turns_pillow_tolerant_of_truncated_photos() -> None:
    tolerant = [path for path in PACKAGE.rglob("*.py") if "LOAD_TRUNCATED_IMAGES" in path.read_text("utf-8")]
    assert tolerant == []


@pytest.mark.parametrize("module", ["definitions", "cli"])
def test_importing_is_quick_and_loads_no_model_library(module: str) -> None:
    program = (
        f"import sys, time; import stage_a_pipeline.{module}; "
        f"print(time.process_time(), *[name for name in {HEAVY} if name in sys.modules])"
    )
    seconds = []
    for _ in range(3):
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        cpu, *loaded = run.stdout.split()
        assert loaded == []
        seconds.append(float(cpu))
    assert min(seconds) < 2.0
