# SPDX-License-Identifier: BSD-3-Clause-Clear
"""A model of another program, in a process of its own; that program is never fetched by us.

``COMPRESSAI_BENCH_PROGRAM`` names a folder that Python finds its modules in: a checkout of
CompressAI that was built, or of the authors' program of a model. There, ``build_model.py`` with
``build(name)`` gives a module with ``compress`` and ``decompress``, ``None`` for a model that the
program does not have; without such a file, models are those of its ``compressai.zoo``.
``COMPRESSAI_BENCH_PYTHON`` names the Python to run it with.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["OtherProgram", "other_program"]


def other_program() -> Path | None:
    """The folder that the environment names."""
    folder = os.environ.get("COMPRESSAI_BENCH_PROGRAM")
    return Path(folder).resolve() if folder else None


class OtherProgram:
    """A model of the other program, which codes in turn with ours.

    Args:
        folder: of the program.
        name: of the model.
        weights: file with a state dict that it takes if the keys are the same.
        image: file with the image as a tensor.
        threads: of torch.

    Attributes:
        same_weights: whether it took them; ``None`` if it has no such model.
    """

    def __init__(self, folder: Path, name: str, weights: Path, image: Path, threads: int) -> None:
        python = os.environ.get("COMPRESSAI_BENCH_PYTHON", sys.executable)
        command = [python, "-P", __file__, folder, name, weights, image, str(threads)]
        self._process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.same_weights: bool | None = self._answer()

    def seconds(self) -> float:
        """How long it takes to compress and decompress the image, once."""
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        answer: float = self._answer()
        return answer

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        # What the program itself prints comes before.
        for line in self._process.stdout:
            if line.startswith("answer "):
                return json.loads(line.partition(" ")[2])
        raise RuntimeError("the other program has ended; what went wrong is on standard error")

    def __enter__(self) -> OtherProgram:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def _answer(value: Any) -> None:
    print(f"answer {json.dumps(value)}", flush=True)


def _build(name: str) -> Any:
    try:
        # Of the other program.
        from build_model import build
    except ModuleNotFoundError:
        from compressai.zoo import image_models

        return image_models[name](quality=1, pretrained=False) if name in image_models else None
    return build(name)


def _serve(folder: str, name: str, weights: str, image: str, threads: str) -> None:
    sys.path.insert(0, folder)
    import torch

    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    net = _build(name)
    if net is None:
        _answer(None)
        return
    net.eval()
    state = torch.load(weights, weights_only=True)
    same = {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in _weights(net).items()}
    if same:
        net.load_state_dict(state, strict=False)
    net.update(force=True)
    x = torch.load(image, weights_only=True)
    _answer(same)
    for _ in sys.stdin:
        with torch.no_grad():
            start = time.perf_counter()
            coded = net.compress(x)
            net.decompress(coded["strings"], coded["shape"])
        _answer(time.perf_counter() - start)


def _weights(net: Any) -> dict[str, Any]:
    """What is learned, for tables have sizes of their own."""
    return dict(net.named_parameters())


if __name__ == "__main__":
    _serve(*sys.argv[1:])
