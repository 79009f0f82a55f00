# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Tables of plain text, which a terminal, a log and a README show alike."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["format_table"]


def format_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A title, a line of names, and a line for each row; columns of numbers are to the right.

    Args:
        title: what the table shows.
        header: names of the columns.
        rows: cells, as many as there are names.

    Returns:
        Lines without a newline at the end.
    """
    columns = list(zip(header, *rows))
    widths = [max(map(len, column)) for column in columns]
    right = [all(cell[:1] in "+-0123456789" for cell in column[1:]) for column in columns]
    lines = [
        "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right)
        ).rstrip()
        for row in (header, *rows)
    ]
    return "\n".join([title, lines[0], "-" * max(map(len, lines)), *lines[1:]])
