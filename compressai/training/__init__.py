# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What training scripts share: reports, exact resumption, precision, and stopping in time."""

from __future__ import annotations

from .finite import NonFiniteLoss, RecordingBatchSampler, check_finite
from .precision import keep_entropy_models_in_fp32
from .report import AverageMeter, Reporter, format_losses
from .state import load_training_state, random_states, save_checkpoint, set_random_states

__all__ = [
    "AverageMeter",
    "NonFiniteLoss",
    "RecordingBatchSampler",
    "Reporter",
    "check_finite",
    "format_losses",
    "keep_entropy_models_in_fp32",
    "load_training_state",
    "random_states",
    "save_checkpoint",
    "set_random_states",
]
