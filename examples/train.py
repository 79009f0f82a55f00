# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Train an image model of the zoo on a folder of images.

The folder holds ``train/`` and ``test/``. After every epoch the state of training goes to
``checkpoint.pth.tar`` (``--checkpoint`` resumes from it, exactly); after every best one a model
that is ready to use goes to ``checkpoint_best.safetensors`` (``compressai.load`` opens it)::

    python examples/train.py -d images -m mbt2018-mean --quality 3 --cuda
    torchrun --nproc-per-node=4 examples/train.py -d images -m mbt2018-mean --quality 3 --cuda

``compressai train`` is the same program; what both do is in :mod:`compressai.training`.
"""

from __future__ import annotations

import sys

from compressai.training import (
    AverageMeter,
    CustomDataParallel,
    build_criterion,
    build_loaders,
    build_model,
    configure_optimizers,
    main,
    parse_args,
    save_checkpoint,
    test_epoch,
    train_one_epoch,
)

__all__ = [
    "AverageMeter",
    "CustomDataParallel",
    "build_criterion",
    "build_loaders",
    "build_model",
    "configure_optimizers",
    "main",
    "parse_args",
    "save_checkpoint",
    "test_epoch",
    "train_one_epoch",
]

if __name__ == "__main__":
    main(sys.argv[1:])
