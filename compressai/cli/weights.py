# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``compressai weights``: what is installed, and how weights come and go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compressai.cli.messages import print_report, print_table, progress_bar
from compressai.cli.options import AsJson, Overwrite, quality_option

if TYPE_CHECKING:
    from compressai.zoo.weights import InstalledFile

__all__ = ["weights"]

weights = typer.Typer(
    name="weights", help="Install, list, remove and publish weights.", no_args_is_help=True
)

_Quality = Annotated[float | None, quality_option("Quality in the zoo.")]
_Metric = Annotated[
    str | None, typer.Option(help="What the weights were trained for: mse or ms-ssim.")
]


@weights.command("list")
def list_weights(as_json: AsJson = False) -> None:
    """List the weights that are here, those that come with the library included."""
    from compressai.zoo.weights import installed_files

    files = [_described(file) for file in installed_files()]
    if as_json:
        print_report({"weights": files}, as_json=True)
        return
    if not files:
        print("there are no weights here")
        return
    print_table(
        {"model": "left", "metric": "left", "q": "left", "MB": "right", "where": "left"},
        [
            (
                file["model"],
                file["metric"],
                "all" if file["quality"] is None else f"{file['quality']:g}",
                f"{file['bytes'] / 1e6:.1f}",
                "shipped" if file["shipped"] else "installed",
            )
            for file in files
        ],
    )


def _described(file: InstalledFile) -> dict[str, Any]:
    return {
        "model": file.model,
        "metric": file.metric,
        "quality": file.quality,
        "bytes": file.path.stat().st_size,
        "shipped": file.shipped,
        "file": str(file.path),
    }


@weights.command()
def add(
    source: Annotated[
        str,
        typer.Argument(
            help="A checkpoint or a published folder: path, file://, https:// or hf://OWNER/NAME.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Name to install under, of the zoo or a new one. (default: what the source says)",
        ),
    ] = None,
    quality: _Quality = None,
    metric: _Metric = None,
    revision: Annotated[str | None, typer.Option(help="Of hf://: branch, tag or commit.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Install weights, for --model here and for pretrained=True in Python."""
    from compressai.hub import add as add_source
    from compressai.zoo.weights import parse_name

    paths = add_source(
        source, model=model, quality=quality, metric=metric, revision=revision, overwrite=overwrite
    )
    found = [file for path in paths if (file := parse_name(path))]
    if as_json:
        print_report({"weights": [_described(file) for file in found]}, as_json=True)
        return
    for file in found:
        quality_text = "" if file.quality is None else f" -q {file.quality:g}"
        metric_text = "" if file.metric == "mse" else f" --metric {file.metric}"
        print(f"{file.path}: use it by --model {file.model}{quality_text}{metric_text}")


@weights.command()
def remove(
    model: Annotated[str, typer.Argument(help="Name of the weights.", show_default=False)],
    quality: _Quality = None,
    metric: _Metric = None,
    as_json: AsJson = False,
) -> None:
    """Delete weights that were installed: all of a name, or those of a quality or metric."""
    from compressai.zoo.weights import remove_installed

    chosen = _chosen(model, quality, metric)
    removed = [_described(file) for file in chosen]
    for file in chosen:
        remove_installed(file)
    if as_json:
        print_report({"removed": removed}, as_json=True)
    else:
        print(*(file["file"] for file in removed), sep="\n")


@weights.command()
def path(
    model: Annotated[
        str | None, typer.Argument(help="Name of weights. (default: the folder itself)")
    ] = None,
    quality: _Quality = None,
    metric: _Metric = None,
) -> None:
    """Print where weights are: the folder, or the files of a name."""
    from compressai.zoo.weights import weights_folder

    if model is None:
        print(weights_folder())
        return
    print(*(file.path for file in _chosen(model, quality, metric, shipped=True)), sep="\n")


def _chosen(
    model: str, quality: float | None, metric: str | None, *, shipped: bool = False
) -> list[InstalledFile]:
    """The installed files of a name.

    Raises:
        ValueError: there are none.
    """
    from compressai.zoo.weights import installed_files

    found = [
        file
        for file in installed_files()
        if file.model == model
        and (shipped or not file.shipped)
        and metric in (None, file.metric)
        and (quality is None or file.quality in (None, quality))
    ]
    if not found:
        more = "" if quality is None else f", quality {quality:g}"
        raise ValueError(f"no weights of {model}{more} are installed: see compressai weights list")
    return found


@weights.command()
def publish(
    model: Annotated[str, typer.Argument(help="Name of installed weights.", show_default=False)],
    folder: Annotated[Path, typer.Argument(help="Folder to write.", show_default=False)],
    images: Annotated[
        list[Path],
        typer.Option("--images", help="Image, or folder with images, to measure the weights with."),
    ],
    licence: Annotated[str, typer.Option(help="Of the weights, an SPDX name like CC-BY-4.0.")],
    licence_file: Annotated[
        Path | None, typer.Option(help="Text of the licence, to be copied.")
    ] = None,
    metric: _Metric = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write a folder that holds weights, model card, licence, and what was measured.

    Put it on any server, or upload it as a repository of models; others install it by weights add.
    """
    from compressai.evaluation import find_images
    from compressai.hub.publish import publish as write_folder

    files = find_images(images)
    with progress_bar("measure", len(files)) as advance:
        measured: set[str] = set()

        def on_point(point: Any) -> None:
            if point.image not in measured:
                measured.add(point.image)
                advance(point.image)

        published = write_folder(
            *(model, folder, files),
            licence=licence,
            licence_file=licence_file,
            metric=metric,
            on_point=on_point,
            replace=overwrite,
        )
    if as_json:
        print_report({"folder": str(folder), "files": [f.file for f in published.files]}, True)
    else:
        print(
            f"{folder}: {model}, files of weights: {len(published.files)}, images measured: "
            f"{len(files)}"
        )
