# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Write where the project lives into both pyproject.toml, for a release.

The sources do not know under which address they are published, and an address that leads nowhere is
worse than none. The release workflow knows it::

    python packages/set_urls.py https://example.org/people/compressai
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

__all__ = ["urls_table", "with_urls"]

ROOT = Path(__file__).parents[1]
PROJECTS = (ROOT / "pyproject.toml", ROOT / "packages" / "runtime" / "pyproject.toml")
_TABLE = re.compile(r"\[project\.urls\]\n(?:[^\[\n].*\n|\n(?!\[))*\n?")


def urls_table(address: str) -> str:
    """The table ``[project.urls]`` for a repository.

    Args:
        address: of its page, with https://.

    Raises:
        ValueError: it is no such address.
    """
    if not re.fullmatch(r"https://[\w.-]+(/[\w.~-]+)+/?", address):
        raise ValueError(f"address must be https://HOST/PATH of the repository, got {address!r}")
    address = address.rstrip("/")
    rows = {
        "Homepage": address,
        "Repository": address,
        "Changelog": f"{address}/blob/main/NEWS.md",
        "Issues": f"{address}/issues",
    }
    return "[project.urls]\n" + "".join(f'{key} = "{value}"\n' for key, value in rows.items())


def with_urls(text: str, address: str) -> str:
    """The text of a pyproject.toml with these addresses in place of earlier ones."""
    text = _TABLE.sub("", text)
    head, mark, rest = text.partition("[project.scripts]")
    if not mark:
        raise ValueError("text must have the table [project.scripts], before which URLs are put")
    return f"{head}{urls_table(address)}\n{mark}{rest}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", help="of the repository's page")
    arguments = parser.parse_args()
    for path in PROJECTS:
        path.write_text(
            with_urls(path.read_text(encoding="utf-8"), arguments.address), encoding="utf-8"
        )
