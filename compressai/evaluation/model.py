# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Learned models as codecs: what is counted are the bytes of whole ``.cai`` files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from PIL import Image
from torch import nn

from compressai.bitstream import (
    CodedImage,
    ImageData,
    decode_image,
    encode_image,
    read_image,
)
from compressai.bitstream.hashes import hash_weights
from compressai.evaluation.codecs import Coded, ImageCodec
from compressai.inference import name_precision
from compressai.models.effort import check_effort

__all__ = ["ModelCodec"]


class ModelCodec(ImageCodec):
    """A learned model, with one network for each point of its curve.

    Args:
        model: what the files call the model, such as its name in the zoo.
        nets: networks with tables, in evaluation mode, by quality. A quality is a number, which
            the files hold, or any other label, such as the name of a checkpoint. Of a model of
            variable rate, the same network may stand for several qualities from 1 to 8.
        metric: what the weights were trained for.
        random_weights: the weights are of no training.
        name: how the evaluation calls it; ``model`` by default.
        effort: of the encoder, see :func:`~compressai.inference.compress_with_effort`. More than 1
            is told behind the name.

    Raises:
        TypeError: ``effort`` is no integer.
        ValueError: there are no networks, or ``effort`` is not in 1 ... 9.
    """

    def __init__(
        self,
        model: str,
        nets: Mapping[Any, nn.Module],
        *,
        metric: str | None = None,
        random_weights: bool = False,
        name: str | None = None,
        effort: int = 1,
    ) -> None:
        check_effort(effort)
        if not nets:
            raise ValueError(f"nets must have a network for each quality of {model}, got none")
        self.name = name or model
        if effort > 1:
            self.name += f", effort {effort}"
        self.description = f"{model}, bytes of .cai files"
        if any(name_precision(net) == "bf16" for net in nets.values()):
            self.description += ", in bfloat16"
        if metric is not None:
            self.description += f", trained for {metric}"
        if random_weights:
            self.description += ", RANDOM weights"
        self.qualities = tuple(nets)
        self._model = model
        self._nets = dict(nets)
        self._metric = metric
        self._random_weights = random_weights
        self._effort = effort

    def identity(self) -> dict[str, Any]:
        """Also a hash of all weights and the precision of each network."""
        nets = {
            str(quality): {"weights": hash_weights(net).hex(), "precision": name_precision(net)}
            for quality, net in self._nets.items()
        }
        return {**super().identity(), "nets": nets, "effort": self._effort}

    def code(self, image: Image.Image, quality: Any) -> Coded:
        if quality not in self._nets:
            raise ValueError(
                f"quality of {self.name} must be one of {list(self._nets)}, got {quality!r}"
            )
        net = self._nets[quality]
        # As for the classical codecs: pixels, without profile and texts of the source.
        bare = image.copy()
        bare.info.clear()
        source = ImageData(read_image(bare).pixels)
        start = time.perf_counter()
        content = encode_image(
            net,
            source,
            model=self._model,
            quality=None if isinstance(quality, str) else quality,
            metric=self._metric,
            random_weights=self._random_weights,
            effort=self._effort,
        ).to_bytes()
        between = time.perf_counter()
        # From here on only the bytes count.
        decoded = decode_image(net, CodedImage.from_bytes(content)).to_image().convert("RGB")
        end = time.perf_counter()
        return Coded(content, decoded, between - start, end - between)
