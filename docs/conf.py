"""How Sphinx makes the site of these pages: `make docs`.

Nothing of it is asked of other hosts, neither by the build nor by readers.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent / "_sphinx")]

project = "stage_a_pipeline"
author = "the authors of stage_a_pipeline"
language = "en"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_click",
    "assets_reference",
    "diagrams",
]
exclude_patterns = ["_build", "_sphinx"]

# Headings get the anchors that GitHub gives them, so that one link serves both.
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]

# Docstrings are written as plain text with `names` in them.
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_preserve_defaults = True
nitpicky = True
# Types of Python and of libraries, whose pages are elsewhere.
nitpick_ignore_regex = [("py:.*", ".*")]

html_theme = "furo"
html_title = "stage_a_pipeline"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
pygments_style = "friendly"
pygments_dark_style = "monokai"
