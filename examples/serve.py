# SPDX-License-Identifier: BSD-3-Clause-Clear
"""A small server: ``.cai`` files to PNG and images to ``.cai`` files, over HTTP.

    python examples/serve.py --port 8000
    curl --data-binary @photo.cai localhost:8000/decode > photo.png
    curl --data-binary @photo.png localhost:8000/encode?quality=60 > photo.cai

Requests share the cores: one alone gets all of them, and as soon as as many are there as there are
cores each gets one, because images side by side keep cores busier than one image on all of them.
More wait. What is too large is refused before it is read, and so are images of too many pixels
before they are decoded.

``--engine torch`` runs the same with torch, to compare; see ``benchmarks/serving.py``.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from compressai.bitstream import (
    BitstreamError,
    TooLargeError,
    WrongWeightsError,
    decode_image,
    encode_image,
    parse_coded,
    read_image,
)
from compressai.cores import Cores, usable_cores, wait_passively
from compressai.runtime import RuntimeModel, bundle_of_file, installed_bundle
from compressai.zoo.defaults import DEFAULT_METRIC, DEFAULT_MODEL

__all__ = ["Models", "main", "make_server"]

MOST_BYTES = 32 << 20
MOST_PIXELS = 1 << 25
QUALITIES = 4


class Models:
    """Where models come from: bundles, or torch.

    Args:
        engine: ``"runtime"`` or ``"torch"``.
    """

    def __init__(self, engine: str) -> None:
        self._cache: Any = None
        if engine == "torch":
            wait_passively()
            # Slow to import, and not needed else.
            from compressai.model_choice import ModelCache

            self._cache = ModelCache(precision="auto")

    def to_decode(self, coded: Any, threads: int) -> Any:
        """The model for a coded image, with threads for its networks.

        Raises:
            WrongWeightsError: it is not at hand.
        """
        if self._cache is not None:
            return self._cache.model_of(coded, None)
        found = bundle_of_file(coded, threads=threads)
        if found is None:
            raise WrongWeightsError(f"this server has no bundle of {coded.model} for the file")
        return found

    def to_encode(self, quality: int, threads: int) -> Any:
        """The default model for a quality of 0 to 100, with threads for its networks."""
        level = 1 + round((QUALITIES - 1) * quality / 100)
        if self._cache is not None:
            return self._cache.choose_model(DEFAULT_MODEL, level, DEFAULT_METRIC, None).net
        return installed_bundle(DEFAULT_MODEL, level, DEFAULT_METRIC, threads=threads)


def decode(models: Models, threads: int, content: bytes, _: dict[str, str]) -> tuple[str, bytes]:
    """A PNG file of a coded image."""
    coded = parse_coded(content)
    net = models.to_decode(coded, threads)
    image = decode_image(net, coded, max_pixels=MOST_PIXELS, workers=1)
    out = io.BytesIO()
    # The fastest: most of the time would go into a few bytes less.
    image.to_image().save(out, "PNG", compress_level=1)
    return "image/png", out.getvalue()


def encode(
    models: Models, threads: int, content: bytes, options: dict[str, str]
) -> tuple[str, bytes]:
    """A coded image of any image that Pillow reads."""
    quality = int(options.get("quality", "75"))
    if not 0 <= quality <= 100:
        raise ValueError(f"quality must be 0 to 100, got {quality}")
    net = models.to_encode(quality, threads)
    image = read_image(
        io.BytesIO(content), max_pixels=MOST_PIXELS, as_array=isinstance(net, RuntimeModel)
    )
    return "image/x-cai", encode_image(net, image, workers=1).to_bytes()


ROUTES: dict[str, Callable[[Models, int, bytes, dict[str, str]], tuple[str, bytes]]] = {
    "/decode": decode,
    "/encode": encode,
}


def make_server(address: tuple[str, int], engine: str, workers: int) -> ThreadingHTTPServer:
    """A server, to be started by ``serve_forever``.

    Args:
        address: host and port; port 0 takes any.
        engine: as for :class:`Models`.
        workers: cores that requests share; no more are worked on at a time, others wait.
    """
    models, cores = Models(engine), Cores(workers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_POST(self) -> None:
            place = urlsplit(self.path)
            options = {key: values[-1] for key, values in parse_qs(place.query).items()}
            length = self.headers.get("Content-Length", "")
            if place.path not in ROUTES or not length.isdecimal() or int(length) > MOST_BYTES:
                # What was not read would be taken for the next request.
                self.close_connection = True
                known = place.path in ROUTES
                self._answer(413 if known else 404, "text/plain", b"no such page, or too large\n")
                return
            content = self.rfile.read(int(length))
            try:
                with cores.hold() as held:
                    # One or all: each number of threads keeps a model of its own in memory.
                    threads = held if held == workers else 1
                    kind, result = ROUTES[place.path](models, threads, content, options)
                self._answer(200, kind, result)
            except (BitstreamError, ValueError) as error:
                status = 413 if isinstance(error, TooLargeError) else 422
                text = f"{type(error).__name__}: {error}\n"
                self._answer(status, "text/plain; charset=utf-8", text.encode())

        def _answer(self, status: int, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *words: Any) -> None:
            """Quiet."""

    return ThreadingHTTPServer(address, Handler)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 takes any")
    parser.add_argument("--engine", choices=["runtime", "torch"], default="runtime")
    parser.add_argument("--workers", type=int, default=usable_cores())
    args = parser.parse_args(argv)
    server = make_server((args.host, args.port), args.engine, args.workers)
    print(f"http://{args.host}:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
