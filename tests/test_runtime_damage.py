# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The seeds of fuzzing, damaged: with and without torch the same image, or the same error."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_nets import one_thread

from compressai.bitstream import BitstreamError, decode_image, parse_coded
from compressai.runtime import RuntimeModel

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
from compressai.inference import export_bundle

# Of programs that run alone.
sys.path.insert(0, str(Path(__file__).parent / "fuzz"))
from targets import SEEDS, fitting_sums, load_net

SEEDS_OF = {
    "bmshj2018-factorized": ("bmshj2018-factorized", "tiled", "v2-factorized-rgb"),
    "mbt2018-mean": ("mbt2018-mean", "v2-mean-placed", "v2-mean-tiles"),
    "lite": ("v2-lite",),
}
TRIALS = 20
MAX_PIXELS = 256 * 256


@pytest.fixture(scope="module", params=SEEDS_OF)
def engines(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Any, RuntimeModel]:
    net = load_net(request.param)
    path = tmp_path_factory.mktemp("damage") / "tiny.caibundle"
    with one_thread():
        export_bundle(net, path)
    return request.param, net, RuntimeModel(path, threads=1)


def _damaged(content: bytes, rng: np.random.Generator) -> Iterator[bytes]:
    """Bytes changed, left out and repeated, most of them in the strings, behind a header."""
    for number in range(TRIALS):
        changed = bytearray(content)
        begin = 0 if number % 4 == 0 else len(content) // 3
        place = int(rng.integers(begin, len(content)))
        length = int(rng.integers(1, 9))
        kind = number % 5
        if kind < 2:
            changed[place] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            changed[place : place + length] = rng.bytes(length)
        elif kind == 3:
            del changed[place : place + length]
        else:
            changed[place:place] = changed[place : place + length]
        yield bytes(changed)


def _outcome(engine: Any, content: bytes, best_effort: bool) -> tuple[str, Any]:
    try:
        coded = parse_coded(content, best_effort=best_effort)
        found = decode_image(engine, coded, best_effort=best_effort, max_pixels=MAX_PIXELS)
    except BitstreamError as error:
        return type(error).__name__, None
    # Objects are shown with their addresses.
    notes = [re.sub(r"0x\w+", "", note) for note in found.notes]
    return "decoded", (found.size, np.asarray(found.pixels), notes)


@pytest.mark.slow
def test_both_engines_say_the_same_of_every_damaged_file(
    engines: tuple[str, Any, RuntimeModel],
) -> None:
    name, net, runtime = engines
    rng = np.random.Generator(np.random.PCG64(7))
    kinds: Counter[str] = Counter()
    for seed in SEEDS_OF[name]:
        content = (SEEDS / "image" / f"{seed}.cai").read_bytes()
        assert _outcome(runtime, content, False)[0] == "decoded"
        for damaged in _damaged(content, rng):
            for trial in (damaged, fitting_sums(damaged)):
                for best_effort in (False, True):
                    ours, theirs = (_outcome(one, trial, best_effort) for one in (runtime, net))
                    assert ours[0] == theirs[0]
                    kinds[ours[0]] += 1
                    if ours[1] is not None:
                        assert (ours[1][0], ours[1][2]) == (theirs[1][0], theirs[1][2])
                        apart = np.abs(255 * (ours[1][1] - theirs[1][1]))
                        # Of what was estimated, values may round to either side.
                        assert (apart <= 1).mean() >= (0.9 if ours[1][2] else 0.9999)
    assert kinds["decoded"] > 0
    assert len(kinds) >= 4, kinds
