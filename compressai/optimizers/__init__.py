# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Optimizers for models whose entropy bottlenecks carry auxiliary parameters."""

from __future__ import annotations

from .net import net_optimizer
from .net_aux import net_aux_optimizer

__all__ = ["net_aux_optimizer", "net_optimizer"]
