# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Fetch freely licensed photographs from Debian's wallpaper packages, ready for fast training.

Packages are fetched by apt and unpacked, not installed. Every photograph is scaled down at least
by 2, which removes what JPEG left in it, to several sizes; all pixels go into one file that a
training program maps into memory, so that a random crop costs no decoding::

    python examples/prepare_photos.py /var/tmp/lite
    python examples/train_lite.py --data /var/tmp/lite/photos ...

Drawings and renderings in those packages are left out: only what ``PHOTOS`` names is used.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

LARGEST_SIDE = 1600
SMALLEST_SIDE = 256
STEP = 2**0.5


class Photo(NamedTuple):
    """A photograph, and whom to thank for it."""

    package: str
    file: str
    author: str
    licence: str


def _of(package: str, folder: str, *rows: tuple[str, str, str]) -> tuple[Photo, ...]:
    return tuple(Photo(package, f"{folder}/{file}", *credit) for file, *credit in rows)


_BACKGROUNDS = "usr/share/backgrounds"
_PLASMA = "usr/share/wallpapers"
_BY, _SA3, _SA4 = "CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0"
_GPL, _LGPL, _LGPL2 = "GPL-2+", "LGPL-3", "LGPL-2.1+"
_2560 = "contents/images/2560x1600.jpg"

PHOTOS: tuple[Photo, ...] = (
    *_of(
        "lomiri-wallpapers-16.04",
        _BACKGROUNDS,
        ("Bridge_by_Sander_Klootwijk.jpg", "Sander Klootwijk", _SA4),
        ("Dragonfly_by_Bolly.jpg", "Bolly", _SA4),
        ("Picture_0B_by_freespace.jpg", "Trevor 'Freespace'", _BY),
        ("Picture_1A_by_freespace.jpg", "Trevor 'Freespace'", _BY),
        ("Wine_by_Jakkub_Mede.jpg", "Jakub Mede", _BY),
        ("aitzgorri_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", _BY),
        ("free_by_Peter_Nerlich.jpg", "Peter Nerlich", _SA4),
        ("friends_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", _BY),
        ("greentock_by_Peter_Nerlich.jpg", "Peter Nerlich", _SA4),
        ("life_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", _BY),
        ("picosdeeuropa_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", _BY),
        ("seeding_by_Clements_Engelhardt.jpg", "Clemens Engelhardt", "CC0-1.0"),
        ("sunset_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", _BY),
    ),
    *_of(
        "lomiri-wallpapers-20.04",
        _BACKGROUNDS,
        ("Kleiber_by_Lukas_Baubkus.jpg", "Lukas Baubkus", _SA3),
    ),
    *_of(
        "mate-backgrounds",
        f"{_BACKGROUNDS}/mate/nature",
        ("Aqua.jpg", "Charles Barbin", _GPL),
        ("Blinds.jpg", "Lennart Poettering, Andrea Cimitan", _GPL),
        ("Dune.jpg", "Marco Cogoni, Hylke Bons", _GPL),
        ("FreshFlower.jpg", "Jens Ansorg", _GPL),
        ("Garden.jpg", "Charles Barbin", _GPL),
        ("GreenMeadow.jpg", "Timothy Schellhase, Lapo Calamandrei", _GPL),
        ("LadyBird.jpg", "Charles Barbin", _GPL),
        ("RainDrops.jpg", "blackcombwhistler07", _GPL),
        ("Storm.jpg", "Sergey Nazarov", _GPL),
        ("TwoWings.jpg", "Charles Barbin, Hylke Bons", _GPL),
        ("Wood.jpg", "Jean-François Fortin Tam", _GPL),
        ("YellowFlower.jpg", "Charles Barbin", _GPL),
    ),
    *_of(
        "plasma-workspace-wallpapers",
        _PLASMA,
        (f"BytheWater/{_2560}", "Maciej Wiklo", _LGPL),
        (f"ColdRipple/{_2560}", "Risto Saukonpää", _LGPL),
        (f"ColorfulCups/{_2560}", "Dmitri Popov", _LGPL),
        (f"DarkestHour/{_2560}", "Risto Saukonpää", _LGPL),
        (f"EveningGlow/{_2560}", "Ian Hex", _LGPL),
        (f"FallenLeaf/{_2560}", "Martin Klapetek", _LGPL),
        (f"Grey/{_2560}", "Sigi Sagi", _LGPL),
        (f"Kite/{_2560}", "Risto Saukonpää", _LGPL),
        (f"OneStandsOut/{_2560}", "Risto Saukonpää", _LGPL),
        (f"Path/{_2560}", "Risto Saukonpää", _LGPL),
        (f"summer_1am/{_2560}", "Risto Saukonpää", _LGPL),
    ),
    *_of(
        "lxqt-themes",
        "usr/share/lxqt/wallpapers",
        ("Butterfly-Kenneth-Wimer.jpg", "Kenneth Wimer, LXQt team", _LGPL2),
        ("Valendas.png", "LXQt team", _LGPL2),
        ("after-the-rain.jpg", "LXQt team", _LGPL2),
        ("appleflower.png", "LXQt team", _LGPL2),
        ("beam.png", "LXQt team", _LGPL2),
        ("butterfly.png", "LXQt team", _LGPL2),
        ("cloud.png", "LXQt team", _LGPL2),
        ("drop.png", "LXQt team", _LGPL2),
        ("flowers.png", "LXQt team", _LGPL2),
        ("fog.jpg", "LXQt team", _LGPL2),
        ("this-is-not-windows.jpg", "LXQt team", _LGPL2),
    ),
    *_of(
        "palapeli-data",
        "usr/share/palapeli/collection",
        ("castle-maintenon.jpg", "Eric Pouhier", "GFDL"),
        ("cincinnati-bridge.jpg", "Derek Jensen", "public domain"),
        ("citrus-fruits.jpg", "US Department of Agriculture", "public domain"),
        ("european-honey-bee.jpg", "John Severns", "public domain"),
        ("panther-chameleon-female.jpg", "B. Navez and others", "GFDL"),
    ),
)
VALIDATION = ("friends_by_Aitzol_Berasategi.jpg", "EveningGlow", "LadyBird.jpg")


def fetch(packages: Sequence[str], folder: Path) -> None:
    """Fetch and unpack packages that are not there yet.

    Args:
        packages: names in the archives that apt knows.
        folder: each package goes to a folder of its name in here.

    Raises:
        subprocess.CalledProcessError: apt or dpkg failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for package in packages:
        if (folder / package).is_dir():
            continue
        subprocess.run(["apt-get", "download", package], cwd=folder, check=True)
        (archive,) = folder.glob(f"{package}_*.deb")
        unfinished = folder / f"{package}.unfinished"
        subprocess.run(["dpkg-deb", "-x", archive, unfinished], check=True)
        unfinished.rename(folder / package)
        archive.unlink()


def scaled_versions(picture: Image.Image) -> Iterator[np.ndarray]:
    """A picture at half its size (or less) and smaller, in steps of the square root of 2.

    Args:
        picture: RGB, decoded.

    Yields:
        uint8 ``(H, W, 3)``; the shorter side is at least ``SMALLEST_SIDE``, but for the first.
    """
    longer, shorter = max(picture.size), min(picture.size)
    side = min(LARGEST_SIDE, longer / 2)
    first = True
    while first or side * shorter / longer >= SMALLEST_SIDE:
        factor = side / longer
        size = tuple(round(length * factor) for length in picture.size)
        yield np.asarray(picture.resize(size, Image.Resampling.LANCZOS))
        side /= STEP
        first = False


def write(photos: Sequence[Photo], packages: Path, target: Path) -> dict[str, object]:
    """Write ``pixels.bin`` and ``index.json``, which says where in it which picture is.

    Args:
        photos: what to decode.
        packages: where :func:`fetch` put the packages.
        target: folder for the two files.

    Returns:
        The index.
    """
    target.mkdir(parents=True, exist_ok=True)
    entries, offset, digest = [], 0, hashlib.sha256()
    with open(target / "pixels.bin", "wb") as pixels:
        for photo in photos:
            held_out = any(name in photo.file for name in VALIDATION)
            with Image.open(packages / photo.package / photo.file) as file:
                picture = file.convert("RGB")
            for version in scaled_versions(picture):
                data = version.tobytes()
                pixels.write(data)
                digest.update(data)
                entries.append(
                    {
                        "photo": f"{photo.package}/{photo.file}",
                        "split": "validation" if held_out else "train",
                        "height": version.shape[0],
                        "width": version.shape[1],
                        "offset": offset,
                    }
                )
                offset += len(data)
    index = {"sha256": digest.hexdigest(), "bytes": offset, "pictures": entries}
    (target / "index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
    return index


def main(argv: Sequence[str]) -> None:
    """Prepare as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where packages/ and photos/ go")
    parser.add_argument("--credits", action="store_true", help="only print the list of photographs")
    args = parser.parse_args(argv)
    if args.credits:
        for photo in PHOTOS:
            print(f"| {photo.package} | {photo.file} | {photo.author} | {photo.licence} |")
        return
    fetch(list(dict.fromkeys(photo.package for photo in PHOTOS)), args.folder / "packages")
    index = write(PHOTOS, args.folder / "packages", args.folder / "photos")
    print(f"{len(PHOTOS)} photographs, {index['bytes']} bytes, sha256 {index['sha256']}")


if __name__ == "__main__":
    main(sys.argv[1:])
