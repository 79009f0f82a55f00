# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Sphinx configuration: Markdown pages, and a reference made from the docstrings."""

from __future__ import annotations

import os
import re
from typing import Any

from compressai.version import __version__

# Sphinx would run the stubs of native modules in place of these.
os.environ["SPHINX_AUTODOC_IGNORE_NATIVE_MODULE_TYPE_STUBS"] = "1"

project = "compressai"
author = "the compressai authors"
version = release = __version__

extensions = [
    *("myst_nb", "sphinx_copybutton"),
    *("sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"),
]
exclude_patterns = ["_build"]

# Pages of the gallery are notebooks. They run when the manual is built; an error ends the build.
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True

# Copied are commands and code, neither prompts nor what is printed.
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = f"compressai {release}"
html_copy_source = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "tango"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # torch's docstrings refer to pages of torch
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
# Our sections describe several names at once ("width, height: ..."), which only this style keeps.
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Attributes", "params_style")]
add_module_names = False

# Headings that our docstrings have besides those of Google style, with text on the same line.
_INLINE_HEADINGS = re.compile(r"^(Shape|Source|forward|backward): (?=\S)")


def _house_style(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Tell napoleon of our habits.

    ``Shape: ...`` and ``Source: ...`` become paragraphs with a bold title. Text of ``Returns:`` and
    of properties may contain a colon, which does not end the name of a type here.
    """
    out: list[str] = []
    text_follows = what in ("property", "attribute", "data")
    for line in lines:
        if line == "Overloaded function.":
            continue
        if _INLINE_HEADINGS.match(line):
            out += ["", _INLINE_HEADINGS.sub(r"**\1:** ", line)]
        elif text_follows:
            indent = len(line) - len(line.lstrip())
            out.append(f"{line[:indent]}: {line[indent:]}")
        else:
            out.append(line)
        text_follows = line.strip() == "Returns:"
    lines[:] = out


def setup(app: Any) -> dict[str, bool]:
    """Runs before napoleon, whose priority is 500."""
    app.connect("autodoc-process-docstring", _house_style, priority=400)
    return {"parallel_read_safe": True}
