# SPDX-License-Identifier: BSD-3-Clause-Clear
"""examples/serve.py answers, several requests at a time, and refuses what it cannot answer."""

from __future__ import annotations

import http.client
import importlib.util
import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compressai import decode

pytest.importorskip("onnxruntime")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def serve() -> Any:
    spec = importlib.util.spec_from_file_location("serve", ROOT / "examples" / "serve.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def server(serve: Any) -> Iterator[tuple[str, int]]:
    made = serve.make_server(("127.0.0.1", 0), "runtime", 2)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made.server_address
    made.shutdown()
    thread.join()
    made.server_close()


def _ask(server: tuple[str, int], path: str, content: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*server, timeout=60)
    connection.request("POST", path, content)
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def _png() -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((90, 60)).convert("RGB").save(out, "PNG")
    return out.getvalue()


def test_requests_are_answered_side_by_side(server: tuple[str, int]) -> None:
    with ThreadPoolExecutor(4) as pool:
        coded = list(pool.map(lambda _: _ask(server, "/encode?quality=30", _png()), range(4)))
        assert {status for status, _ in coded} == {200}
        assert len({content for _, content in coded}) == 1
        images = list(pool.map(lambda one: _ask(server, "/decode", one[1]), coded))
    status, png = images[0]
    assert status == 200
    expected = np.asarray(decode(coded[0][1]), int)
    assert np.abs(np.asarray(Image.open(io.BytesIO(png)), int) - expected).max() <= 1


def test_what_cannot_be_answered_is_refused(
    server: tuple[str, int], serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, coded = _ask(server, "/encode", _png())
    assert status == 200
    for path, content, expected in (
        ("/decode", coded[:-9], (422, "TruncatedFileError")),
        ("/decode", b"not a file", (422, "NotACodedImageError")),
        ("/encode", coded[:-9], (422, "ValueError")),
        ("/encode?quality=101", _png(), (422, "quality must be")),
        ("/encode?quality=x", _png(), (422, "invalid literal")),
        ("/other", b"", (404, "no such page")),
    ):
        status, text = _ask(server, path, content)
        assert (status, expected[1] in text.decode()) == (expected[0], True), text
    monkeypatch.setattr(serve, "MOST_PIXELS", 1000)
    assert _ask(server, "/decode", coded)[0] == 413
    monkeypatch.setattr(serve, "MOST_BYTES", 10)
    assert _ask(server, "/decode", coded)[0] == 413
