# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Copy the photographs on which ``lite`` is evaluated out of two packages that ship them.

They were never trained or tuned on. They are in the wheels of scikit-image (``astronaut``,
``chelsea``, ``coffee``, ``rocket``) and scikit-learn (``china``, ``flower``), which are read, not
imported::

    pip install scikit-image scikit-learn
    python examples/evaluation_photos.py photos
    compressai eval photos -q 0 10 20 30 40 50 60 70 80 90 100 --precision fp32 --against jpeg webp
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

PHOTOS = {
    "skimage": (
        "data/astronaut.png",
        "data/chelsea.png",
        "data/coffee.png",
        "data/rocket.jpg",
    ),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}


def copy_photos(folder: Path) -> list[Path]:
    """Copy the photographs.

    Args:
        folder: where to; made if it is not there.

    Returns:
        The copies.

    Raises:
        ImportError: a package is not installed.
    """
    copies = []
    folder.mkdir(parents=True, exist_ok=True)
    for package, files in PHOTOS.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ImportError(f"{package} is missing: pip install scikit-image scikit-learn")
        for file in files:
            source = Path(spec.origin).parent / file
            copies.append(Path(shutil.copy(source, folder / source.name)))
    return copies


def main(argv: Sequence[str]) -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="Copy the photographs for evaluation.")
    parser.add_argument("folder", type=Path)
    for copy in copy_photos(parser.parse_args(argv).folder):
        print(copy)


if __name__ == "__main__":
    main(sys.argv[1:])
