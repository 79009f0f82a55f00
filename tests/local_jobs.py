# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Jobs over many files whose workers are in this process, with a small model."""

from __future__ import annotations

import contextlib
import functools

import torch

from compressai.model_choice import ChosenModel
from compressai.models import MeanScaleHyperprior


@functools.cache
def chosen(seed: int = 0) -> ChosenModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = MeanScaleHyperprior(8, 12).eval()
    net.update()
    return ChosenModel(net, "mbt2018-mean", 1, "mse", random_weights=True)


def local_pass(items, make_worker, number, retries, *, workers=1):
    """A pass in this process."""
    from compressai.cluster.job import work_on

    worker = make_worker(number)
    for item in items:
        yield list(work_on(worker, [item], retries))


def work_in_this_process(monkeypatch, run_pass=local_pass):
    """Without Ray, and without pauses."""
    from compressai.cluster import engine

    monkeypatch.setattr("compressai.cluster.job._PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(engine, "ray_cluster", lambda: contextlib.nullcontext(1))
    monkeypatch.setattr(engine, "ray_pass", run_pass)
