# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Training: the run behind ``compressai train`` and ``examples/train.py``, and its parts.

The parts are there for scripts of your own: reports, exact resumption, precision, stopping in
time, averages of weights, and batches that several processes share.
"""

from __future__ import annotations

from compressai.training.averaging import moving_average
from compressai.training.epochs import test_epoch, train_one_epoch
from compressai.training.finite import NonFiniteLoss, check_finite
from compressai.training.initial import load_initial_weights
from compressai.training.levels import Level, Levels
from compressai.training.options import parse_args
from compressai.training.precision import flushed_denormals, keep_entropy_models_in_fp32
from compressai.training.processes import Processes, process_group
from compressai.training.regularizers import add_regularizers
from compressai.training.report import AverageMeter, Reporter, format_losses
from compressai.training.run import (
    CustomDataParallel,
    build_criterion,
    build_levels,
    build_loaders,
    build_model,
    configure_optimizers,
    main,
)
from compressai.training.sampling import (
    RecordingBatchSampler,
    SeededSamples,
    begin_epoch,
    item_noise,
)
from compressai.training.state import (
    load_training_state,
    random_states,
    save_checkpoint,
    save_epoch,
    set_random_states,
)

__all__ = [
    "AverageMeter",
    "CustomDataParallel",
    "Level",
    "Levels",
    "NonFiniteLoss",
    "Processes",
    "RecordingBatchSampler",
    "Reporter",
    "SeededSamples",
    "add_regularizers",
    "begin_epoch",
    "build_criterion",
    "build_levels",
    "build_loaders",
    "build_model",
    "check_finite",
    "flushed_denormals",
    "configure_optimizers",
    "format_losses",
    "item_noise",
    "keep_entropy_models_in_fp32",
    "load_initial_weights",
    "load_training_state",
    "main",
    "moving_average",
    "parse_args",
    "process_group",
    "random_states",
    "save_checkpoint",
    "save_epoch",
    "set_random_states",
    "test_epoch",
    "train_one_epoch",
]
