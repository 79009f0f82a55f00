# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The long run of ``make soak``, made short."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest
from tiny_nets import one_thread, tiny_net

from compressai.bitstream import DesyncError

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import soak


def test_images_of_every_kind_come_back_with_the_same_latent():
    nets = soak.make_nets()
    with one_thread():
        report = soak.run(4, nets=nets, max_side=100)
    assert report["images"] == 4
    assert report["by_model"] == dict.fromkeys(nets, 1)
    assert report["memory_is_flat"]


def test_images_are_of_all_kinds_and_sizes():
    images = list(itertools.islice(soak.random_images(1), 200))
    assert images[0].size == (1, 1)
    assert max(max(sample.size) for sample in images) > 500
    assert {sample.mode for sample in images} == {"RGB", "RGBA", "L"}
    assert any(sample.convert("RGB").getcolors() is None for sample in images)  # noise
    assert sum(len(sample.getcolors() or "no") == 1 for sample in images) > 10


def test_another_latent_ends_the_run(monkeypatch):
    net = tiny_net("mbt2018-mean")
    monkeypatch.setattr(soak.copy, "deepcopy", lambda _: other)
    other = tiny_net("mbt2018-mean")
    decompress = other.decompress

    def wrong(strings, shape, *, sync_safe):
        out = decompress(strings, shape, sync_safe=sync_safe)
        return {**out, "y_hat": out["y_hat"] + 1}

    monkeypatch.setattr(other, "decompress", wrong)
    with pytest.raises(DesyncError):
        soak.run(1, nets={"mbt2018-mean": net})
