# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Fetch freely licensed photographs from Debian's packages, into one file for training.

Packages are fetched by apt and unpacked, not installed. Every photograph that is large is scaled
down at least by 2, which removes what JPEG left in it; all are kept as JPEG XL of high quality in
one ZIP file, ``train/...`` and ``validation/...``, which goes to another machine easily::

    python examples/prepare_photos.py /var/tmp/lite
    python examples/train_lite.py --data /var/tmp/lite/photos.zip ...

Drawings and renderings in those packages are left out: only what ``PHOTOS`` names is used. Needs
the extra ``jxl``.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from compressai._files import atomic_write

LARGEST_SIDE = 1600
# Photographs that are not larger were scaled down by those who packed them.
SMALL_SIDE = 512
QUALITY = 99  # of JPEG XL


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

_AVATARS = "Pixabay, Public Domain Pictures, Skitterphoto, Snapwire"
_AVATAR_NAMES = (
    *("Air Balloon", "Books", "Brushes", "Bulb", "Car", "Cat", "Chameleon", "Cocktail", "Dog"),
    *("Fish", "Gamepad", "Owl", "Pancakes", "Parrot", "Pencils", "Soccer", "Sunflower", "Sushi"),
)

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
    *_of(
        "plasma-workspace-data",
        "usr/share/plasma/avatars/photos",
        *((f"{name}.png", _AVATARS, "CC0-1.0") for name in _AVATAR_NAMES),
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


def scaled_down(image: Image.Image) -> Image.Image:
    """An image at half its size, or less if it is larger than twice ``LARGEST_SIDE``.

    Args:
        image: any; small ones are not scaled.

    Returns:
        RGB.
    """
    longer = max(image.size)
    if longer > SMALL_SIDE:
        factor = min(LARGEST_SIDE, longer / 2) / longer
        size = tuple(round(length * factor) for length in image.size)
        image = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    return image.convert("RGB")


def write(photos: Sequence[Photo], packages: Path, target: Path) -> str:
    """Write all photographs to one ZIP file.

    Args:
        photos: what to decode.
        packages: where :func:`fetch` put the packages.
        target: the file; the same photographs give the same bytes.

    Returns:
        SHA-256 of the file.
    """
    import pillow_jxl  # noqa: F401 (tells Pillow about the format)

    with atomic_write(target) as unfinished, zipfile.ZipFile(unfinished, "w") as pack:
        for number, photo in enumerate(photos):
            held_out = any(name in photo.file for name in VALIDATION)
            with Image.open(packages / photo.package / photo.file) as file:
                image = scaled_down(file)
            content = io.BytesIO()
            image.save(content, "JXL", quality=QUALITY)
            split = "validation" if held_out else "train"
            # Without a time, which a name alone would get.
            pack.writestr(zipfile.ZipInfo(f"{split}/{number:03}.jxl"), content.getvalue())
    return hashlib.sha256(target.read_bytes()).hexdigest()


def main(argv: Sequence[str]) -> None:
    """Prepare as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where packages/ and photos.zip go")
    parser.add_argument("--credits", action="store_true", help="only print the list of photographs")
    args = parser.parse_args(argv)
    if args.credits:
        for photo in PHOTOS:
            print(f"| {photo.package} | {photo.file} | {photo.author} | {photo.licence} |")
        return
    fetch(list(dict.fromkeys(photo.package for photo in PHOTOS)), args.folder / "packages")
    target = args.folder / "photos.zip"
    sha256 = write(PHOTOS, args.folder / "packages", target)
    print(f"{len(PHOTOS)} photographs, {target.stat().st_size} bytes, sha256 {sha256}")


if __name__ == "__main__":
    main(sys.argv[1:])
