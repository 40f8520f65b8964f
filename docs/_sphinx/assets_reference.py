"""The directive `assets`: every asset and check of the code location, as its own description has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    import dagster as dg


def markdown(graph: dg.AssetGraph, checks: dict[str, list[str]]) -> Iterator[str]:
    """The lines of the page: a heading per group, and what is known of each of its assets."""
    nodes_by_group: dict[str, list[Any]] = {}
    for key in graph.toposorted_asset_keys:
        node = graph.get(key)
        nodes_by_group.setdefault(node.group_name, []).append(node)
    for group, assets in nodes_by_group.items():
        yield from (f"**Group `{group}`**", "")
        for node in assets:
            name = node.key.to_user_string()
            above = ", ".join(f"`{parent.to_user_string()}`" for parent in sorted(node.parent_keys))
            yield from (f"`{name}`", f": {' '.join((node.description or '').split())}", "")
            if above:
                yield from (f"  From {above}.", "")
            if checks.get(name):
                yield from (f"  Checks: {', '.join(f'`{check}`' for check in sorted(checks[name]))}.", "")


def checks_by_asset(definitions: dg.Definitions) -> dict[str, list[str]]:
    """The names of the checks on each asset."""
    found: dict[str, list[str]] = {}
    for key in definitions.resolve_asset_graph().asset_check_keys:
        found.setdefault(key.asset_key.to_user_string(), []).append(key.name)
    return found


class Assets(SphinxDirective):
    """A definition list per group of assets."""

    def run(self) -> list[nodes.Node]:
        from stage_a_pipeline.definitions import defs

        text = "\n".join(markdown(defs.resolve_asset_graph(), checks_by_asset(defs)))
        return self.parse_text_to_nodes(text)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("assets", Assets)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
