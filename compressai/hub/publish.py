# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Folders to publish: weights with model card, licence, and what was measured.

What such a folder is, and how others get at it, is in :mod:`compressai.hub`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from compressai._files import atomic_write
from compressai.bitstream.chosen import rates_of
from compressai.checkpoint import load_checkpoint, read_metadata
from compressai.evaluation import MS_SSIM, PSNR, Evaluation, ModelCodec, evaluate
from compressai.hub.index import Published, describe_file, write_index
from compressai.registry import ENTRIES
from compressai.zoo.weights import InstalledFile, check_hash, installed_files

__all__ = ["publish"]

CARD = "README.md"
"""Name of the model card, which hubs show."""

RD = "rd.json"
"""Name of the file with what was measured, in the form of ``compressai eval --json``."""


def publish(
    model: str,
    folder: Path,
    images: Sequence[Path],
    *,
    licence: str,
    licence_file: Path | None = None,
    metric: str | None = None,
    on_point: Callable[[Any], None] = lambda point: None,
    replace: bool = False,
) -> Published:
    """Write a folder with the installed weights of a model and all that belongs to them.

    Args:
        model: name that the weights are installed under.
        folder: where to; made if it does not exist.
        images: files that rate and distortion are measured with.
        licence: of the weights, an SPDX name such as ``CC-BY-4.0``.
        licence_file: its text, which is copied into the folder as ``LICENSE``.
        metric: only weights for this one.
        on_point: called with each point as it is measured.
        replace: whether files of the same names are replaced.

    Returns:
        What the folder says of itself.

    Raises:
        FileExistsError: files exist and are not to be replaced.
        RuntimeError: weights are damaged.
        ValueError: no weights of that name are installed, or no licence or no image is named.
    """
    if not licence:
        raise ValueError("licence must be an SPDX name such as CC-BY-4.0, got nothing")
    found = [
        file for file in installed_files() if file.model == model and metric in (None, file.metric)
    ]
    if not found:
        raise ValueError(
            f"no weights of {model}{f' for {metric}' if metric else ''} are installed: see "
            "compressai weights list"
        )
    for file in found:
        check_hash(file.path)
    descriptions = [read_metadata(file.path) or {} for file in found]
    architectures = {str(d.get("architecture", model)) for d in descriptions}
    if len(architectures) > 1:
        raise ValueError(f"weights of {model} are of several models: {sorted(architectures)}")
    measured = _measure(model, found, images, on_point)
    folder.mkdir(parents=True, exist_ok=True)
    names = [file.path.name for file in found]
    for file in found:
        with atomic_write(folder / file.path.name, replace=replace) as unfinished:
            shutil.copyfile(file.path, unfinished)
    if licence_file is not None:
        with atomic_write(folder / "LICENSE", replace=replace) as unfinished:
            unfinished.write_bytes(licence_file.read_bytes())
    measured.to_json(folder / RD, replace=replace)
    published = Published(
        model,
        architectures.pop(),
        licence,
        tuple(
            describe_file(folder / name, file.metric, file.quality)
            for name, file in zip(names, found)
        ),
    )
    card = _card(published, measured, licence_file is not None)
    with atomic_write(folder / CARD, replace=replace) as unfinished:
        unfinished.write_text(card, encoding="utf-8")
    # Last: a folder with an index is whole.
    write_index(folder, published, replace=replace)
    return published


def _measure(
    model: str,
    found: Sequence[InstalledFile],
    images: Sequence[Path],
    on_point: Callable[[Any], None],
) -> Evaluation:
    codecs = []
    for metric in dict.fromkeys(file.metric for file in found):
        nets: dict[Any, nn.Module] = {}
        for file in found:
            if file.metric != metric:
                continue
            net = load_checkpoint(file.path)
            rates = rates_of(net)
            if rates is None:
                nets[file.quality] = net
            else:
                # Six show the whole of a scale.
                nets |= dict.fromkeys(rates[:: max(1, len(rates) // 5)], net)
        codecs.append(ModelCodec(model, nets, metric=metric, name=f"{model} ({metric})"))
    return evaluate(images, codecs, on_point=on_point)


def _card(published: Published, measured: Evaluation, has_licence: bool) -> str:
    """The model card: Markdown with the head that hubs read."""
    entry = ENTRIES.get(published.architecture)
    lines = [
        "---",
        f"license: {published.licence.lower()}",
        "library_name: compressai",
        "tags:",
        "- image-compression",
        f"- {published.architecture}",
        "---",
        "",
        f"# {published.model}",
        "",
        f"Weights of `{published.architecture}` for learned image compression with compressai.",
        *([entry.text] if entry else []),
        "",
        "## Use",
        "",
        "```console",
        "$ compressai weights add THIS_FOLDER",
        f"$ compressai encode photo.png --model {published.model}"
        + ("" if published.files[0].quality is None else f" -q {published.files[0].quality:g}"),
        "```",
        "",
        "`THIS_FOLDER` is a path, an `https://` URL, or `hf://OWNER/NAME`.",
        "",
        "## Weights",
        "",
        "| file | metric | quality | lambda | SHA-256 |",
        "|---|---|---|---|---|",
    ]
    for file in published.files:
        quality = "all" if file.quality is None else f"{file.quality:g}"
        lmbda = "" if file.lmbda is None else str(file.lmbda)
        lines.append(f"| {file.file} | {file.metric} | {quality} | {lmbda} | {file.sha256} |")
    lines += ["", "## Rate and distortion", "", _images(measured), ""]
    for curve in measured.curves():
        lines += [f"### {curve['name']}", "", *_table(curve["results"]), ""]
    where = ", whose text is in `LICENSE`" if has_licence else ""
    lines += ["## Licence", "", f"{published.licence}{where}.", ""]
    return "\n".join(lines)


def _images(measured: Evaluation) -> str:
    names = measured.images
    listed = ", ".join(names[:24]) + (f" and {len(names) - 24} more" if len(names) > 24 else "")
    return (
        f"Averages over {len(names)} images ({listed}): bytes of whole files, metrics of 8-bit "
        f"RGB. `{RD}` has every point."
    )


def _table(results: Mapping[str, Sequence[Any]]) -> list[str]:
    columns = [("quality", "quality", "g"), ("bpp", "bpp", ".4f"), (PSNR, "PSNR (dB)", ".3f")]
    columns += [(MS_SSIM, "MS-SSIM", ".5f")]
    shown = [column for column in columns if column[0] in results]
    rows = zip(*(results[key] for key, _, _ in shown))
    return [
        f"| {' | '.join(title for _, title, _ in shown)} |",
        f"|{'---|' * len(shown)}",
        *(
            f"| {' | '.join(format(v, form) for v, (_, _, form) in zip(row, shown))} |"
            for row in rows
        ),
    ]
