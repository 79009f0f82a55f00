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


def test_pictures_of_every_kind_come_back_with_the_same_latent():
    nets = soak.make_nets()
    with one_thread():
        report = soak.run(4, nets=nets, max_side=100)
    assert report["pictures"] == 4
    assert report["by_model"] == dict.fromkeys(nets, 1)
    assert report["memory_is_flat"]


def test_pictures_are_of_all_kinds_and_sizes():
    pictures = list(itertools.islice(soak.random_pictures(1), 200))
    assert pictures[0].size == (1, 1)
    assert max(max(picture.size) for picture in pictures) > 500
    assert {picture.mode for picture in pictures} == {"RGB", "RGBA", "L"}
    assert any(picture.convert("RGB").getcolors() is None for picture in pictures)  # noise
    assert sum(len(picture.getcolors() or "no") == 1 for picture in pictures) > 10


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
