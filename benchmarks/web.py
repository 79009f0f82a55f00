# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How long the page takes to decode, against the runtime in Python, and its memory.

``python benchmarks/web.py`` builds the page as ``make web`` does, opens it in headless Chromium,
and lets both decode the same files by turns: bytes to 8-bit samples, with networks that were
loaded before. *First* is from the start of loading the page to its first image, model and all.
"""

from __future__ import annotations

import argparse
import base64
import functools
import http.server
import os
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from _report import PHOTO
from PIL import Image

ROOT = Path(__file__).parents[1]
for folder in ("tests", "web"):
    sys.path.insert(0, str(ROOT / folder))

from webdriver import Browser, browser  # noqa: E402

from build import build, bundle_of  # noqa: E402
from compressai.bitstream import encode_image, parse_coded, read_image  # noqa: E402
from compressai.runtime import RuntimeModel  # noqa: E402

__all__ = ["main"]

# Seconds that the page takes, by its own clock; the file is there already.
_DECODE = """
const { call } = await import("./client.js");
const bytes = Uint8Array.from(atob(given[0]), (c) => c.charCodeAt(0));
const begin = performance.now();
await call("decode", [bytes]);
return (performance.now() - begin) / 1000;
"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Nothing is said of requests."""


def decode_here(model: RuntimeModel, content: bytes) -> np.ndarray:
    """8-bit samples ``(H, W, 3)`` of a file without tiles."""
    coded = parse_coded(content)
    *others, first = coded.tiles[0].strings
    sides = (side + -side % model.multiple for side in (coded.height, coded.width))
    quality = None if model.rates is None else coded.quality
    x_hat = model.decompress([first, *others], *sides, quality=quality)["x_hat"]
    cropped = x_hat[0, :, : coded.height, : coded.width]
    return np.rint(255 * cropped).astype(np.uint8).transpose(1, 2, 0)


def run(page: Browser, content: bytes) -> float:
    """Seconds that the page takes."""
    text = base64.b64encode(content).decode()
    return page.run(f"return (async (...given) => {{{_DECODE}}})(...arguments)", text)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="lite", help="as of web/build.py (default: lite)")
    parser.add_argument("--sizes", nargs="+", default=["451x300", "768x512", "2048x1365"])
    parser.add_argument("--repeats", type=int, default=5, help="(default: 5)")
    args = parser.parse_args(argv)
    out = ROOT / "build" / "page"
    build(out, [args.model])
    bundle = bundle_of(args.model)
    runtimes = {threads: RuntimeModel(bundle, threads=threads) for threads in (1, os.cpu_count())}
    files = {}
    for size in args.sizes:
        with Image.open(PHOTO) as image:
            resized = image.convert("RGB").resize(tuple(map(int, size.split("x"))))
        samples = read_image(resized, as_array=True)
        files[size] = encode_image(runtimes[1], samples, tile=None).to_bytes()
    handler = functools.partial(_Quiet, directory=str(out))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, median of {args.repeats}")
    print(f"{'image':12}{'threads':>8}{'first':>9}{'page':>9}{'Python':>9}{'ratio':>7}{'page':>10}")
    for size, content in files.items():
        # On its second visit the page is isolated, and so has threads.
        with browser() as page:
            for threads, runtime in runtimes.items():
                start = time.perf_counter()
                page.open(f"http://127.0.0.1:{server.server_port}/", 1000, 800)
                run(page, content)
                first = time.perf_counter() - start
                decode_here(runtime, content)
                seconds: dict[str, list[float]] = {"page": [], "python": []}
                for _ in range(args.repeats):
                    seconds["page"].append(run(page, content))
                    start = time.perf_counter()
                    decode_here(runtime, content)
                    seconds["python"].append(time.perf_counter() - start)
                there, here = (statistics.median(values) for values in seconds.values())
                print(
                    f"{size:12}{threads:8}{first:7.2f} s{there:7.2f} s{here:7.2f} s"
                    f"{there / here:7.2f}{page.peak_memory() / 1e6:7.0f} MB",
                    flush=True,
                )
                page.run("return navigator.serviceWorker.ready.then(() => true)")
    server.shutdown()


if __name__ == "__main__":
    main()
