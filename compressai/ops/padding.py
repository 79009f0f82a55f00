# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How far to pad an image so that its sides fit a network, and how to undo it."""

from __future__ import annotations

__all__ = ["compute_padding"]

Padding = tuple[int, int, int, int]


def compute_padding(
    in_h: int,
    in_w: int,
    *,
    out_h: int | None = None,
    out_w: int | None = None,
    min_div: int = 1,
) -> tuple[Padding, Padding]:
    """Return the padding that centres an ``in_h`` x ``in_w`` image in the output size.

    Args:
        in_h: height in pixels.
        in_w: width in pixels.
        out_h: height to reach; by default the next multiple of ``min_div``.
        out_w: width to reach; by default the next multiple of ``min_div``.
        min_div: what both output sides must be a multiple of, e.g. ``2**6`` for six halvings.

    Returns:
        ``(pad, unpad)``, each ``(left, right, top, bottom)`` as :func:`torch.nn.functional.pad`
        takes it. ``unpad`` is the negation of ``pad``. Of an odd difference the larger part goes
        right and to the bottom. An output smaller than the input gives negative values: a crop.

    Raises:
        ValueError: ``min_div`` below 1, or an output side that is no multiple of it.

    Example:
        >>> pad, unpad = compute_padding(100, 75, min_div=64)
        >>> pad
        (26, 27, 14, 14)
        >>> unpad
        (-26, -27, -14, -14)
    """
    if min_div < 1:
        raise ValueError(f"min_div must be at least 1, got min_div={min_div}")
    if out_h is None:
        out_h = -(-in_h // min_div) * min_div
    if out_w is None:
        out_w = -(-in_w // min_div) * min_div
    for name, size in (("out_h", out_h), ("out_w", out_w)):
        if size % min_div:
            raise ValueError(f"{name} must be a multiple of min_div={min_div}, got {name}={size}")

    left = (out_w - in_w) // 2
    right = out_w - in_w - left
    top = (out_h - in_h) // 2
    bottom = out_h - in_h - top
    return (left, right, top, bottom), (-left, -right, -top, -bottom)
