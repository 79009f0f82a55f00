# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Try an installed wheel: does what was installed work on this Python and this system?

For a fresh environment with a wheel in it, run from anywhere but a checkout, whose package Python
would take instead::

    python /path/to/packages/try_wheel.py

Codes an image and decodes it, with the program and from Python, and where torch is installed goes
through a model and back. Prints a line; a fault ends it with a traceback.
"""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib.metadata import distribution, version
from pathlib import Path

__all__ = ["main"]


def _image():
    import numpy as np
    from PIL import Image

    y, x = np.mgrid[:130, :190]
    planes = [128 + 90 * np.sin(x / 17 + k) * np.cos(y / 23 - k) for k in range(3)]
    return Image.fromarray(np.stack(planes, -1).astype(np.uint8))


def _psnr(one, other) -> float:
    import numpy as np

    error = np.asarray(one.convert("RGB"), float) - np.asarray(other.convert("RGB"), float)
    return float(10 * np.log10(255**2 / np.mean(error**2)))


def _with_the_program(image, folder: Path) -> float:
    from PIL import Image

    program = shutil.which("compressai", path=sysconfig.get_path("scripts"))
    assert program is not None, "the program compressai is not installed"
    photo, coded, decoded = (folder / name for name in ("a.png", "a.cai", "b.png"))
    image.save(photo)
    for words in (
        ["--version"],
        ["encode", "--quiet", "--quality", "60", photo, coded],
        ["info", coded],
        ["decode", "--quiet", coded, decoded],
    ):
        done = subprocess.run([program, *words], capture_output=True, text=True, cwd=folder)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
    with Image.open(decoded) as opened:
        return _psnr(image, opened)


def _with_torch() -> str:
    import torch

    from compressai import _kernels
    from compressai.losses import RateDistortionLoss
    from compressai.zoo import image_models

    model = image_models["mbt2018-mean"](quality=1)
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    loss = RateDistortionLoss(lmbda=0.01)(model(x), x)["loss"]
    loss.backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if "quantiles" not in n)
    model.eval().update()
    coded = model.compress(x)
    again = model.decompress(coded["strings"], coded["shape"])["x_hat"]
    assert again.shape == x.shape
    # Of what torch says of the processor: a compiler's own way of asking may find nothing.
    expected = torch.backends.cpu.get_cpu_capability().startswith("AVX")
    assert _kernels.available() == (expected and platform.system() == "Linux")
    layers = "native layers" if expected else "no native layers"
    return f"torch {torch.__version__}, {layers}"


def main() -> None:
    """Try it, and print a line."""
    import compressai
    from compressai import ans

    name = "compressai-torch" if importlib.util.find_spec("torch") else "compressai-runtime"
    assert version(name) == compressai.__version__
    place = Path(distribution(name).locate_file("compressai")).resolve()
    assert Path(compressai.__file__).resolve().parent == place, "this is a checkout's package"
    image = _image()
    data = compressai.encode(image, quality=60)
    found = [_psnr(image, compressai.decode(data))]
    with tempfile.TemporaryDirectory() as folder:
        found.append(_with_the_program(image, Path(folder)))
    assert min(found) > 30, f"PSNR in dB: {found}"
    torch = _with_torch() if name == "compressai-torch" else "no torch"
    system = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    module = Path(ans.__file__).name
    print(f"{name} {version(name)} works: {system}, {torch}, {module}, {found[0]:.1f} dB")


if __name__ == "__main__":
    sys.exit(main())
