# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Optimizers for models whose entropy bottlenecks carry auxiliary parameters."""

from __future__ import annotations

from compressai.optimizers.adafactor import MatrixAdafactor
from compressai.optimizers.net import net_optimizer
from compressai.optimizers.net_aux import net_aux_optimizer

__all__ = ["MatrixAdafactor", "net_aux_optimizer", "net_optimizer"]
