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
    "bmshj2018-factorized": (
        *("bmshj2018-factorized.cai", "tiled.cai", "v2-factorized-rgb.cai"),
        "v1-factorized-rgb.cai",
    ),
    "mbt2018-mean": (
        *("mbt2018-mean.cai", "v2-mean-la.cai", "v2-mean-placed.cai", "v2-mean-tiles.cai"),
        *("v1-mean-la.cai", "old-mean.bin"),
        *("cheng2020-anchor-checkerboard.cai", "v1-checkerboard-rgba.cai"),
        "v2-checkerboard-rgba.cai",
    ),
    "lite": ("v2-lite.cai",),
}
# What only torch decodes, and why. Without it, they end in this error where torch gets to weights
# and strings; what comes before is told alike.
TORCH_ONLY = {
    "v1-factorized-rgb.cai": "UnsupportedFileError: of version 1, whose strings are plain",
    "v1-mean-la.cai": "UnsupportedFileError: of version 1, whose strings are plain",
    "old-mean.bin": "UnsupportedFileError: of version 0, which knows neither weights nor tiles",
}
# Of a model that has no bundle, since it codes half of the positions in the context of the others.
# With any other bundle, they end in the error with which torch refuses any other model.
NO_BUNDLE = (
    *("cheng2020-anchor-checkerboard.cai", "v1-checkerboard-rgba.cai"),
    "v2-checkerboard-rgba.cai",
)
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


def test_all_seeds_are_tried() -> None:
    tried = sorted(seed for seeds in SEEDS_OF.values() for seed in seeds)
    assert tried == sorted(path.name for path in (SEEDS / "image").iterdir())
    assert {*TORCH_ONLY, *NO_BUNDLE} <= set(tried)


def _said_alike(seed: str, ours: str, theirs: str) -> bool:
    told = TORCH_ONLY.get(seed, "").partition(":")[0]
    return ours == theirs or (bool(told) and ours == told and theirs in _BEHIND_THE_HEADER)


# What can come of a file whose header was read.
_BEHIND_THE_HEADER = (
    *("decoded", "DamagedFileError", "DesyncError", "ImpossibleHeaderError", "WrongWeightsError"),
    "UnsupportedFileError",
)


def test_both_engines_say_the_same_of_every_damaged_file(
    engines: tuple[str, Any, RuntimeModel],
) -> None:
    name, net, runtime = engines
    rng = np.random.Generator(np.random.PCG64(7))
    for seed in SEEDS_OF[name]:
        kinds: Counter[str] = Counter()
        content = (SEEDS / "image" / seed).read_bytes()
        whole = TORCH_ONLY.get(seed, "decoded").partition(":")[0]
        whole = "WrongWeightsError" if seed in NO_BUNDLE else whole
        assert _outcome(runtime, content, False)[0] == whole
        for damaged in _damaged(content, rng):
            for trial in (damaged, fitting_sums(damaged)):
                for best_effort in (False, True):
                    ours, theirs = (_outcome(one, trial, best_effort) for one in (runtime, net))
                    assert _said_alike(seed, ours[0], theirs[0]), (seed, ours[0], theirs[0])
                    kinds[ours[0]] += 1
                    if ours[1] is not None:
                        assert (ours[1][0], ours[1][2]) == (theirs[1][0], theirs[1][2])
                        apart = np.abs(255 * (ours[1][1] - theirs[1][1]))
                        # Of what was estimated, values may round to either side.
                        assert (apart <= 1).mean() >= (0.9 if ours[1][2] else 0.9999)
        assert kinds[whole] > 0, (seed, kinds)
        # Version 0 has neither sums nor fields that could contradict each other.
        assert len(kinds) >= (2 if seed == "old-mean.bin" else 4), (seed, kinds)
