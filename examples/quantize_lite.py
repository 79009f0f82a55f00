# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Make the weights of ``lite-integer`` that come with the library out of those of ``lite``.

Calibrates on crops of the photographs that ``lite`` was trained on, see ``prepare_photos.py``, and
writes the entries that differ from those of ``lite``::

    python examples/quantize_lite.py --data work/photos.zip --export compressai/zoo/shipped

For models of your own, call :func:`compressai.models.integer.quantize_entropy_path`.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from train_lite import Photos

from compressai._files import atomic_write
from compressai.models.integer import quantize_entropy_path
from compressai.zoo import lite

_BATCH = 8


def crops(photos: Photos, count: int, side: int) -> Iterator[Tensor]:
    """Batches of random crops in [0, 1], the same ones every time."""
    generator = np.random.default_rng(0)
    for start in range(0, count, _BATCH):
        yield photos.batch(min(_BATCH, count - start), side, generator) / 255


def difference(net: nn.Module, reference: nn.Module) -> dict[str, Tensor]:
    """Entries of the state dict that are not in ``reference``, parameters in half precision."""
    known, parameters = reference.state_dict(), dict(net.named_parameters())
    return {
        name: (value.half() if name in parameters else value).contiguous()
        for name, value in net.state_dict().items()
        if not (name in known and known[name].dtype == value.dtype)
        or not torch.equal(known[name], value)
    }


def main(argv: Sequence[str]) -> Path:
    """Do what the command line says, and give the file."""
    parser = argparse.ArgumentParser(description="Make the weights of lite-integer.")
    parser.add_argument("--data", type=Path, required=True, help="what prepare_photos.py wrote")
    parser.add_argument("--export", type=Path, required=True, help="folder to write to")
    parser.add_argument("--crops", type=int, default=64, help="number of crops")
    parser.add_argument("--crop", type=int, default=256, help="their side, in pixels")
    args = parser.parse_args(argv)
    net = lite(pretrained=True).eval()
    net.update()
    made = quantize_entropy_path(net, crops(Photos(args.data), args.crops, args.crop))
    content = safetensors.torch.save(difference(made, net))
    digest = hashlib.sha256(content).hexdigest()[:8]
    args.export.mkdir(parents=True, exist_ok=True)
    file = Path(args.export, f"lite-integer-mse-all-{digest}.safetensors")
    with atomic_write(file) as unfinished:
        unfinished.write_bytes(content)
    print(file)
    return file


if __name__ == "__main__":
    main(sys.argv[1:])
