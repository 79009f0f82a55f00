# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Coding a corpus of images into ``.cai`` files."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compressai._images import buffer_image
from compressai.bitstream import (
    MAX_PIXELS,
    BitstreamError,
    CodedImage,
    encode_image,
    fingerprint,
    read_content,
    read_image,
)
from compressai.bitstream.finished import is_coded_with
from compressai.cluster.corpus import plan_items, work_on_corpus
from compressai.cluster.engine import Run
from compressai.cluster.job import Item, JobReport
from compressai.cluster.stores import Store
from compressai.targets import Target, encode_to_target

if TYPE_CHECKING:
    from compressai.model_choice import ChosenModel

__all__ = ["EncodeWorker", "encode_corpus"]

# Options that can be read off a file.
_COMPARED = ("tile", "sync_safe")


class EncodeWorker:
    """Codes images with one model.

    Args:
        choose: loads the model.
        settings: what :func:`encode_corpus` found the model to be.
        overwrite: replace files that exist. Otherwise they count as done, if they were coded with
            the same model.
        options: arguments of :func:`~compressai.bitstream.encode_image`, ``keep_metadata`` of
            :func:`~compressai.bitstream.read_image`, and ``target``, kind and value of a
            :class:`~compressai.targets.Target`, which takes a
            :class:`~compressai.model_choice.Chooser` for ``choose``.

    Raises:
        RuntimeError: the model is another one here, such as for other weights on this machine.
    """

    def __init__(
        self,
        choose: Callable[[], ChosenModel],
        settings: Mapping[str, Any],
        overwrite: bool,
        options: Mapping[str, Any],
    ) -> None:
        self.chosen = choose()
        self.settings = dict(settings)
        self.overwrite = overwrite
        self.options = dict(options)
        self.keep_metadata = bool(self.options.pop("keep_metadata", False))
        target = self.options.pop("target", None)
        self.target = None if target is None else Target(*target)
        self.ladder = None if target is None else choose.ladder()  # type: ignore[attr-defined]
        here = describe_model(self.chosen)
        if here != {key: self.settings[key] for key in here}:
            raise RuntimeError(f"the model on this machine is {here}, not {self.settings}")

    def __call__(self, item: Item) -> dict[str, Any]:
        """Code an image, unless that is done.

        Raises:
            FileExistsError: another file has the name of the result.
            OSError: the image cannot be read, or the result not be written.
            ValueError: it is no image, or too large.
        """
        if not self.overwrite:
            finished = self._finished(item)
            if finished is not None:
                return finished
        max_pixels = self.options.get("max_pixels", MAX_PIXELS)
        with Store(item.source).open() as stream:
            source = stream if stream.seekable() else buffer_image(stream, max_pixels)
            source_bytes = source.seek(0, io.SEEK_END)
            source.seek(0)
            image = read_image(source, keep_metadata=self.keep_metadata, max_pixels=max_pixels)
        if self.target is None:
            coded = encode_image(image=image, **vars(self.chosen), **self.options)
        else:
            coded = encode_to_target(image, self.target, self.ladder, **self.options)
        content = coded.to_bytes()
        self.write(item, content)
        return {**_result(coded, content, source_bytes), "notes": image.notes}

    def write(self, item: Item, content: bytes) -> None:
        """Write a coded image."""
        Store(item.target).write(content, replace=self.overwrite)

    def _finished(self, item: Item) -> dict[str, Any] | None:
        target = Store(item.target)
        if not target.exists():
            return None
        problem = "was not coded with this model"
        try:
            with target.open() as file:
                content = read_content(file, max_pixels=self.options.get("max_pixels", MAX_PIXELS))
            coded = CodedImage.from_bytes(content)
            options = {key: self.options[key] for key in _COMPARED if key in self.options}
            chosen = self.chosen if self.ladder is None else self.ladder.of_image(coded)
            if chosen is not None and is_coded_with(coded, **vars(chosen), **options):
                return _result(coded, content, Store(item.source).size())
        except BitstreamError as error:
            problem = f"is damaged ({error})"
        raise FileExistsError(f"{item.target} exists and {problem}; overwrite replaces it")


def _result(coded: CodedImage, content: bytes, source_bytes: int | None) -> dict[str, Any]:
    return {
        "source_bytes": source_bytes,
        "bytes": len(content),
        "width": coded.width,
        "height": coded.height,
        "mode": coded.mode,
        "tiles": len(coded.tiles),
    }


def describe_model(chosen: ChosenModel) -> dict[str, Any]:
    """What tells one model from another, as JSON data."""
    return {
        "model": chosen.model,
        "quality": chosen.quality,
        "metric": chosen.metric,
        "random_weights": chosen.random_weights,
        "fingerprint": fingerprint(chosen.net).hex(),
    }


def encode_corpus(
    sources: Sequence[str],
    destination: str,
    choose: Callable[[], ChosenModel],
    *,
    suffixes: Collection[str],
    name: str | None = None,
    run: Run | None = None,
    overwrite: bool = False,
    skip_existing: bool = False,
    max_pixels: int = MAX_PIXELS,
    options: Mapping[str, Any] | None = None,
    on_model: Callable[[ChosenModel], None] | None = None,
    make_encoder: type[EncodeWorker] = EncodeWorker,
) -> JobReport:
    """Code all images of some folders on a Ray cluster.

    The results have the paths of their images, with suffix ``.cai``, below ``destination``; what
    became of each image is in ``_manifest`` there.

    Args:
        sources: folders and files, paths or URLs.
        destination: folder, path or URL; of all machines the same.
        choose: loads the model, here and in each worker; has to be picklable.
        suffixes: of the files to take from folders, in lower case and with the dot.
        name: of the result, where the only source is a file; default: that of the source, with
            suffix ``.cai``.
        run: how the work is done; default: ``Run()``.
        overwrite: replace files that exist, instead of taking them as done. A file that was
            written just before its machine died is made again then.
        skip_existing: take files that exist as done, whatever they were made with.
        max_pixels: largest image that is coded.
        options: as for :class:`EncodeWorker`.
        on_model: called with the model when it is loaded here.
        make_encoder: the class of the workers.

    Returns:
        The report. Images that failed are in it, and in the manifest.

    Raises:
        FileNotFoundError: a source does not exist.
        ValueError: there are no images, two would have the same result, a folder would become
            the file ``name``, or the destination holds the results of another model.
        OSError: a folder cannot be listed, or the manifest not be written, as far as that shows
            before the work.
        RuntimeError: there is no cluster, or a worker cannot load its model.
    """
    store = Store(destination)
    items = plan_items(sources, store, suffixes, name)
    chosen_options = {"max_pixels": max_pixels, "workers": 1, **(options or {})}
    chosen = choose()
    if on_model is not None:
        on_model(chosen)
    settings = {**describe_model(chosen), "options": chosen_options}
    return work_on_corpus(
        items,
        store,
        settings,
        functools.partial(_make_encoder, make_encoder, choose, settings, overwrite, chosen_options),
        run=run or Run(),
        overwrite=overwrite,
        skip_existing=skip_existing,
    )


def _make_encoder(
    make_encoder: type[EncodeWorker],
    choose: Callable[[], ChosenModel],
    settings: Mapping[str, Any],
    overwrite: bool,
    options: Mapping[str, Any],
    number: int,
) -> EncodeWorker:
    return make_encoder(choose, settings, overwrite, options)
