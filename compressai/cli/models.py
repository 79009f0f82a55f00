# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``compressai models``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from compressai.cli.messages import print_report, print_table, print_text, progress_bar
from compressai.cli.options import AsJson
from compressai.zoo.names import image_model_names

if TYPE_CHECKING:
    from torch import nn

__all__ = ["markdown_table", "models", "multiplications"]

# Sides of the image that operations are counted on: a multiple of what every model needs.
_SIDE = 512


def models(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names in the zoo. (default: all image models)")
    ] = None,
    quality: Annotated[
        int,
        typer.Option(
            "-q", "--quality", min=1, help="Whose sizes to show, or the highest that there is."
        ),
    ] = 3,
    only_names: Annotated[
        bool, typer.Option("--names", help="Print the names only, a line each, at once.")
    ] = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print names, classes and papers for a README.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the models of the zoo: sizes, operations, weights; and papers of those that are named.

    Columns: the quality shown and those that there are, parameters, and the multiplications that
    encoder and decoder need for each pixel. With --json also all papers, the licences of published
    weights, the weights of the loss by quality, and the names of authors' programs.
    """
    if only_names and (as_markdown or as_json):
        raise typer.BadParameter(
            f"--names and --{'markdown' if as_markdown else 'json'} exclude each other"
        )
    if as_markdown:
        print(markdown_table())
        return
    known = image_model_names()
    unknown = set(names or ()) - set(known)
    if unknown:
        raise ValueError(f"names must be in {', '.join(known)}, got {', '.join(sorted(unknown))}")
    chosen = names or known
    if only_names:
        print(*chosen, sep="\n")
        return
    entries = []
    with progress_bar("count operations", len(chosen)) as advance:
        for name in chosen:
            entries.append(_describe(name, quality))
            advance(name)
    if as_json:
        print_report({"models": entries}, as_json=True)
        return
    print_table(
        {
            "model": "left",
            "q": "right",
            "of": "left",
            "params": "right",
            "enc.": "right",
            "dec.": "right",
            "weights": "left",
        },
        [
            (
                entry["model"],
                *_qualities(entry),
                _millions(entry["parameters"]),
                _thousands(entry["encode_macs_per_pixel"]),
                _thousands(entry["decode_macs_per_pixel"]),
                _weights(entry),
            )
            for entry in entries
        ],
    )
    for entry in entries if names else [entry for entry in entries if entry["note"]]:
        print()
        print_text(f"{entry['model']}: {entry['note'] or entry['paper']}")


def markdown_table() -> str:
    """Names, classes, qualities and papers of all rows, as README shows them."""
    from compressai.registry import ENTRIES

    lines = ["| name | class | qualities | model |", "|---|---|---|---|"]
    for entry in ENTRIES.values():
        low, high = entry.qualities
        qualities = str(low) if low == high else f"{low}-{high}"
        if entry.variable_rate:
            qualities = "any"
        cells = (f"`{entry.name}`", f"`{entry.model.__name__}`", qualities, entry.text.rstrip("."))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _describe(name: str, quality: int) -> dict[str, Any]:
    """What is known about an entry of the zoo, as data."""
    from compressai.registry import ENTRIES
    from compressai.zoo import image_models
    from compressai.zoo.weights import weights_status

    # A name may have been given a function without a row.
    entry = ENTRIES.get(name)
    lowest, highest = entry.qualities if entry else (1, 8)
    metrics = entry.metrics if entry else ("mse",)
    # Of models of variable rate all qualities have the same size and weights.
    whole = entry is not None and entry.variable_rate
    quality = entry.default_quality if whole else max(lowest, min(quality, highest))
    build = image_models[name]
    facts = {
        "model": name,
        "paper": entry.text if entry else "",
        "licence": (entry.licence or None) if entry else None,
        "extra": (entry.extra or None) if entry else None,
        "convert_from": (entry.source or None) if entry else None,
        "losses": {m: dict(by) for m, by in entry.losses.items()} if entry else {},
        "qualities": (lowest, highest),
        "quality": quality,
        "parameters": None,
        "encode_macs_per_pixel": None,
        "decode_macs_per_pixel": None,
        "note": None,
        "weights": {
            metric: {
                q: weights_status(name, metric, None if whole else q)
                for q in (["all"] if whole else range(lowest, highest + 1))
            }
            for metric in metrics
        },
    }
    try:
        net = _without_values(build, None if whole else quality)
    except ImportError as error:
        return {**facts, "note": str(error)}
    counts = multiplications(net)
    total = counts.pop("all")
    return {
        **facts,
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "encode_macs_per_pixel": total - counts.get("g_s", 0),
        "decode_macs_per_pixel": total - counts.get("g_a", 0) - counts.get("h_a", 0),
    }


def _without_values(build: Any, quality: int | None) -> nn.Module:
    """A model whose weights take no memory."""
    import torch

    with torch.device("meta"):
        return build(quality)


def multiplications(net: nn.Module) -> dict[str, float]:
    """Multiply-accumulate operations for each pixel, counted by torch while the model runs.

    What a model computes once for each image, and operations that are no multiplications of
    matrices or convolutions, do not count.

    Args:
        net: an image model on the device ``meta``.

    Returns:
        Operations of ``forward`` as a whole under ``"all"``, and of the transforms ``"g_a"``,
        ``"g_s"``, ``"h_a"`` where the model has them. The encoder runs all but ``g_s``, the decoder
        all but ``g_a`` and ``h_a``.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    # In training mode no path depends on values, which there are none of.
    net.train()
    # The counter puts hooks on what asks for gradients, and parameters handed to a module do.
    net.requires_grad_(False)
    # Models of variable rate would otherwise look for a fixed point, among values.
    arguments = {"stage": 1} if hasattr(net, "levels") else {}
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        net(torch.empty(1, 3, _SIDE, _SIDE, device="meta"), **arguments)
    counts: dict[str, float] = {"all": counter.get_total_flops() / 2 / _SIDE**2}
    for path, operations in counter.get_flop_counts().items():
        name = path.rpartition(".")[2]
        if name in ("g_a", "g_s", "h_a"):
            counts[name] = sum(operations.values()) / 2 / _SIDE**2
    return counts


def _qualities(entry: dict[str, Any]) -> tuple[str, str]:
    """The one shown, and those that there are; of a scale there is nothing to choose."""
    low, high = entry["qualities"]
    return (str(entry["quality"]), f"{low}-{high}") if low else ("", "any")


def _millions(value: int | None) -> str:
    if value is None:
        return ""
    # Six characters at most, or the table does not fit 80 columns.
    if value < 999.5e6:
        return f"{value / 1e6:.{1 if value < 99.95e6 else 0}f} M"
    return f"{value / 1e9:.1f} G"


def _thousands(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value / 1e3:.0f} k" if value < 999.5e3 else f"{value / 1e6:.1f} M"


def _weights(entry: dict[str, Any]) -> str:
    """Which weights there are, best first: ``installed 1,2 (mse)``, ``shipped 1-4 (mse)``."""
    found = []
    for metric, statuses in entry["weights"].items():
        for status in ("shipped", "installed"):
            here = [quality for quality, found in statuses.items() if found == status]
            if here:
                found.append(f"{status} {_ranges(here)} ({metric})")
    statuses = {status for by in entry["weights"].values() for status in by.values()}
    return "; ".join(found) or ("published, not here" if "published" in statuses else "none")


def _ranges(numbers: list[int]) -> str:
    """Numbers in ascending order, three and more in a row as ``1-3``."""
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]}-{numbers[-1]}"
    return ",".join(map(str, numbers))
