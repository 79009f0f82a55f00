# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Checks the Python of README and manual with mypy (strict) and pyright, as users' editors do.

``python tests/types_of_examples.py`` writes the examples of each page into a file of its own below
``build/types``, on the lines that they have on the page, and runs both on all of these files. What
they check is set in ``pyproject.toml``.
"""

from __future__ import annotations

import doctest
import re
import shutil
import subprocess
import sys
from pathlib import Path

from doc_examples import ROOT, collect

__all__ = ["extract", "source"]

FOLDER = ROOT / "build" / "types"


def source(page: Path) -> str:
    """The Python of a page as one module, each line where the page has it; ``""`` without."""
    lines: list[str] = []
    for example in collect(page):
        if example.language == "python":
            blocks = [(0, example.code)]
        elif example.language == "pycon":
            parsed = doctest.DocTestParser().get_examples(example.code)
            blocks = [(part.lineno, part.source) for part in parsed]
        else:
            continue
        for offset, code in blocks:
            lines += [""] * (example.line + offset - len(lines))
            lines += code.splitlines()
    return "".join(f"{line}\n" for line in lines)


def extract(folder: Path) -> list[Path]:
    """Write the examples of all pages into an empty folder: a file for each page that has some."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    written = []
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))):
        if "_build" not in page.parts and (code := source(page)):
            name = re.sub(r"\W", "_", str(page.relative_to(ROOT).with_suffix("")))
            written.append(folder / f"{name}.py")
            written[-1].write_text(code, encoding="utf-8")
    return written


def main() -> int:
    extract(FOLDER)
    status = 0
    # Without being told, pyright looks at the packages of whatever Python comes first on the path.
    for program in (["mypy"], ["pyright", "--pythonpath", sys.executable]):
        status |= subprocess.run([sys.executable, "-m", *program], cwd=ROOT, check=False).returncode
    return status


if __name__ == "__main__":
    sys.exit(main())
