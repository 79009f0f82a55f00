# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``compressai explain``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compressai.cli.messages import print_note, print_report, print_table, print_text
from compressai.cli.options import (
    AnyQuality,
    AsJson,
    Checkpoint,
    Device,
    Metric,
    ModelName,
    Overwrite,
    Precision,
    PrecisionName,
    SyncSafe,
)
from compressai.cli.tasks import check_output

if TYPE_CHECKING:
    from compressai.bitstream import ImageData
    from compressai.bitstream.chosen import ChosenModel
    from compressai.explain import Difference, Health, ImageBits, LatentBits, QuantileState

__all__ = ["explain"]

# Channels with the most bits that the text lists; JSON has all.
_DEAREST = 8
_SETTINGS = ("threads", "precision", "device")


def explain(
    image: Annotated[Path, typer.Argument(help="An image.", show_default=False)],
    model: ModelName = None,
    quality: AnyQuality = None,
    metric: Metric = None,
    checkpoint: Checkpoint = None,
    sync_safe: SyncSafe = None,
    precision: Precision = PrecisionName.AUTO,
    device: Device = "cpu",
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Find where another setting first computes something else: threads=1, "
            "precision=bf16, device=cuda; more than once for several at the same time.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw the bits of each latent over the image: .png, .svg or .pdf."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Tell where the bits of an image are, and what is wrong with a model."""
    if checkpoint is not None and metric is not None:
        raise typer.BadParameter("--metric chooses weights of the zoo, not of a file")
    other = _other_setting(against or [])
    if plot is not None:
        from compressai.explain import check_map_file

        check_map_file(plot)
        check_output(plot, overwrite)
    from compressai import model_choice
    from compressai.bitstream import read_image
    from compressai.explain import health_of, image_bits, save_maps

    source = read_image(image)
    if checkpoint is not None:
        _refuse_not_finite(checkpoint, as_json)

    def load(precision: str, device: str) -> ChosenModel:
        chooser = model_choice.Chooser(
            model, quality, metric, checkpoint, precision=precision, device=device
        )
        return chooser()

    chosen = load(precision.value, device)
    if chosen.random_weights:
        print_note(model_choice.RANDOM_WEIGHTS_NOTE.format_map(vars(chosen)))
    told = {"quality": chosen.quality, "sync_safe": sync_safe}
    bits = image_bits(
        chosen.net,
        source,
        model=chosen.model,
        metric=chosen.metric,
        random_weights=chosen.random_weights,
        **told,
    )
    health = health_of(chosen.net)
    difference = None
    if other and bits.coded is not None:
        difference = _compare(chosen, load, source, told, (precision.value, device), other)
    if plot is not None and bits.coded is not None:
        save_maps(plot, source, bits, replace=overwrite)
    report = _report(image, source, chosen, bits, health, difference, other)
    if as_json:
        print_report(report, as_json=True)
    else:
        _print(report, bits, health, difference, other)
    if bits.coded is None:
        raise typer.Exit(1)


def _other_setting(words: Sequence[str]) -> dict[str, str]:
    """What ``--against`` names.

    Raises:
        typer.BadParameter: it is no setting.
    """
    setting = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name not in _SETTINGS or not equals:
            raise typer.BadParameter(
                f"--against must be {'=..., '.join(_SETTINGS)}=..., got {word!r}"
            )
        if name == "threads" and not (value.isdecimal() and int(value)):
            raise typer.BadParameter(f"--against threads must be a number above 0, got {value!r}")
        if name == "precision" and value not in [one.value for one in PrecisionName]:
            raise typer.BadParameter(
                f"--against precision must be auto, bf16 or fp32, got {value!r}"
            )
        setting[name] = value
    return setting


def _refuse_not_finite(checkpoint: Path, as_json: bool) -> None:
    """Tell which weights are no numbers; a model with such weights is not even loaded."""
    from compressai._weight_files import read_weights
    from compressai.explain import weights_not_finite

    bad = weights_not_finite(read_weights(checkpoint).content)
    if not bad:
        return
    if as_json:
        print_report({"checkpoint": str(checkpoint), "weights_not_finite": bad}, as_json=True)
    else:
        print(f"weights that are not finite ({len(bad)}), so nothing can be coded:")
        print(*(f"  {name}" for name in bad[:_DEAREST]), sep="\n")
        if len(bad) > _DEAREST:
            print(f"  and {len(bad) - _DEAREST} more")
    raise typer.Exit(1)


def _compare(
    chosen: ChosenModel,
    load: Callable[[str, str], ChosenModel],
    source: ImageData,
    told: Mapping[str, Any],
    here: tuple[str, str],
    other: Mapping[str, str],
) -> Difference:
    from compressai.explain import Run, compare_runs, run_model

    precision, device = other.get("precision", here[0]), other.get("device", here[1])
    twin = chosen if (precision, device) == here else load(precision, device)
    threads = int(other["threads"]) if "threads" in other else None

    def first(**asked: Any) -> Run:
        return run_model(chosen.net, source, **told, **asked)

    def second(**asked: Any) -> Run:
        with _threads(threads):
            return run_model(twin.net, source, **told, **asked)

    return compare_runs(first, second)


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# -- what was found, as data --------------------------------------------------------------------


def _report(
    image: Path,
    source: ImageData,
    chosen: ChosenModel,
    bits: ImageBits,
    health: Health,
    difference: Difference | None,
    other: Mapping[str, str],
) -> dict[str, Any]:
    coded = bits.coded
    return {
        "image": str(image),
        "width": source.size[0],
        "height": source.size[1],
        "model": chosen.model,
        "quality": chosen.quality,
        "metric": chosen.metric,
        "random_weights": chosen.random_weights,
        "sync_safe": None if coded is None else coded.sync_safe,
        "tiles": None if coded is None else len(coded.tiles),
        "file_bits": bits.file,
        "container_bits": bits.container,
        "latents": [_latent(latent) for latent in bits.latents],
        "quantiles": [{**vars(state)} for state in health.quantiles],
        "weights_not_finite": list(health.not_finite),
        "first_not_finite": bits.not_finite or None,
        "against": None if difference is None else {"setting": dict(other), **_plain(difference)},
    }


def _latent(latent: LatentBits) -> dict[str, Any]:
    return {
        "name": latent.name,
        "estimated_bits": latent.estimated,
        "table_bits": latent.table.bits,
        "told_bits": latent.told,
        "end_bits": latent.ends,
        "real_bits": latent.real,
        "gap": latent.gap,
        "reasons": latent.reasons(),
        "strings": latent.strings,
        "symbols": latent.table.symbols,
        "escapes": latent.table.escapes,
        "channel_bits": list(latent.channels),
        "dead_channels": latent.dead,
        "silent_channels": latent.silent,
    }


def _plain(difference: Difference) -> dict[str, Any]:
    """JSON has no infinity."""
    return {
        name: None if value == float("inf") else value for name, value in vars(difference).items()
    }


# -- and as text --------------------------------------------------------------------------------


def _print(
    report: Mapping[str, Any],
    bits: ImageBits,
    health: Health,
    difference: Difference | None,
    other: Mapping[str, str],
) -> None:
    quality = "" if report["quality"] is None else f", quality {report['quality']:g}"
    print(f"{report['image']}: {report['width']} x {report['height']}, {report['model']}{quality}")
    if bits.coded is None:
        print_text(f"not finite: first in {bits.not_finite}; nothing was coded")
    else:
        pixels = report["width"] * report["height"]
        way = "sync-safe" if report["sync_safe"] else "plain"
        tiles = f", {report['tiles']} tiles" if report["tiles"] > 1 else ""
        print(
            f"file: {bits.file / 8:.0f} bytes, {bits.file / pixels:.3f} bpp, {way}{tiles}; "
            f"{bits.container / 8:.0f} bytes are no strings"
        )
        print()
        _print_latents(bits)
        for latent in bits.latents:
            _print_channels(latent)
    print()
    for state in health.quantiles:
        print_text(_quantiles(state))
    if not health.quantiles:
        print("quantiles: the model has none")
    if health.not_finite:
        print_text(f"weights that are not finite: {', '.join(health.not_finite)}")
    if bits.coded is not None and not health.not_finite:
        print("not finite: no weight, and nothing that any module computed")
    if difference is not None:
        print()
        _print_difference(difference, " ".join(f"{k}={v}" for k, v in other.items()))


def _print_latents(bits: ImageBits) -> None:
    rows = [
        (
            latent.name,
            len(latent.channels),
            f"{latent.estimated:.0f}",
            f"{latent.table.bits:.0f}",
            f"{latent.told:.0f}",
            f"{latent.ends:.0f}",
            f"{latent.real:.0f}",
            f"{100 * latent.gap:+.2f} %",
        )
        for latent in bits.latents
    ]
    names = ("bits of", "channels", "estimated", "tables", "told", "ends", "real", "gap")
    print_table({name: "left" if name == "bits of" else "right" for name in names}, rows)
    for latent in bits.latents:
        reasons = latent.reasons()
        if reasons:
            print_text(f"gap of {latent.name}: {'; '.join(reasons)}")


def _print_channels(latent: LatentBits) -> None:
    order = sorted(range(len(latent.channels)), key=lambda number: -latent.channels[number])
    whole = latent.estimated or 1.0
    dearest = ", ".join(
        f"{number} ({100 * latent.channels[number] / whole:.1f} %)" for number in order[:_DEAREST]
    )
    print()
    print_text(f"{latent.name}, dearest channels: {dearest}")
    flat = "too few places to tell" if latent.varies is None else _numbers(latent.dead)
    print_text(
        f"{latent.name}, channels below one bit here: {_numbers(latent.silent)}; with one value "
        f"at all places: {flat}"
    )


def _numbers(numbers: Sequence[int]) -> str:
    if not numbers:
        return "none"
    listed = ", ".join(map(str, numbers[: 2 * _DEAREST]))
    more = len(numbers) - 2 * _DEAREST
    return f"{len(numbers)} ({listed}{f' and {more} more' if more > 0 else ''})"


def _quantiles(state: QuantileState) -> str:
    text = (
        f"quantiles of {state.name}: auxiliary loss {state.auxiliary_loss:.3g}, worst median at "
        f"{state.worst_median:.3f} of the mass, at most {state.most_outside:.2g} outside, tables "
        f"of {state.symbols[0]} to {state.symbols[1]} symbols"
    )
    if state.unsolved:
        text += (
            f"; NOT SOLVED in {len(state.unsolved)} of {state.channels} channels: train with the "
            "auxiliary loss, or call net.update(force=True, update_quantiles=True)"
        )
    return text


def _print_difference(difference: Difference, setting: str) -> None:
    if not difference.module:
        print_text(
            f"against {setting}: all {difference.modules} outputs of modules are equal to the bit"
        )
    else:
        call = f", call {difference.call + 1}" if difference.call else ""
        print_text(
            f"against {setting}: {difference.differing} of {difference.modules} outputs of modules "
            f"differ, first that of {difference.module} ({difference.stage}{call}), by up to "
            f"{difference.largest:.3g}"
        )
    print_text(
        f"strings {_same(difference.strings_equal)}, latent {_same(difference.y_hat_equal)}, "
        f"decoded images differ by up to {difference.pixels:.0f} of 255"
    )
    if difference.failure:
        print_text(f"the other setting refuses the strings of this one: {difference.failure}")
    else:
        print_text(
            f"strings of this setting decoded by the other: latent "
            f"{_same(difference.crossed_y_hat_equal)}, image off by up to "
            f"{difference.crossed_pixels:.0f} of 255"
        )


def _same(equal: bool) -> str:
    return "equal" if equal else "DIFFERENT"
