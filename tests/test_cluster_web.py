# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Corpora on web servers, and in archives there: no file is lost, whatever its name is."""

from __future__ import annotations

import functools
import http.server
import json
import re
import shutil
import threading
import zipfile

import pytest
from local_jobs import chosen, work_in_this_process
from program import save_crops

pytest.importorskip("pyarrow")
pytest.importorskip("aiohttp")

from compressai.cluster import Run, Store, encode_corpus
from compressai.cluster.stores import list_sources

NAMES = (
    *("a.png", "b c.png", "d#1.png", "e%20.png", "g&1.png", "q?.png", "x::y.png", "ü.png"),
    *("deep er/a.png", "deep er/deeper/f.png"),
)


class Files(http.server.SimpleHTTPRequestHandler):
    """Gives files whole, and lists folders."""

    def do_GET(self):
        self.server.whole.append(self.path)
        super().do_GET()

    def log_message(self, *args):
        pass


class Pieces(Files):
    """Gives pieces of files, too."""

    def do_GET(self):
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            super().do_GET()
            return
        with open(self.translate_path(self.path), "rb") as file:
            content = file.read()
        first = int(wanted[1])
        last = min(int(wanted[2] or len(content)), len(content) - 1)
        self.server.pieces.append((first, last))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        self.wfile.write(content[first : last + 1])

    def end_headers(self):
        self.send_header("Accept-Ranges", "bytes")
        super().end_headers()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    save_crops({folder / "photos" / name: (0, 0, 64 + i, 64) for i, name in enumerate(NAMES)})
    (folder / "photos" / "notes.txt").write_text("no image")
    (folder / "photos" / ".hidden.png").write_text("")
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for name in NAMES:
            archive.write(folder / "photos" / name, name)
    return folder


@pytest.fixture(params=[Files, Pieces])
def server(files, request):
    handler = functools.partial(request.param, directory=str(files))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.whole, server.pieces = [], []
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("place", ["{}/photos/", "{}/photos", "zip://::{}/photos.zip"])
def test_folders_and_archives_are_whole(server, files, place):
    sources = list_sources([place.format(server.url)], [".png"])
    assert sorted(sources.values()) == sorted(NAMES)
    for url, name in sources.items():
        with Store(url).open() as file:
            assert file.read() == (files / "photos" / name).read_bytes()
    assert server.whole.count("/photos.zip") <= 3


def source_sizes(report):
    return {row["target"]: json.loads(row["result"])["source_bytes"] for row in report.done}


@pytest.mark.parametrize("place", ["{}/photos/", "zip://::{}/photos.zip"])
def test_corpus_comes_from_a_web_server(server, files, tmp_path, monkeypatch, place):
    work_in_this_process(monkeypatch)
    url = place.format(server.url)
    report = encode_corpus([url], str(tmp_path), chosen, suffixes=[".png"], run=Run(retries=0))
    assert report.failed == []
    widths = {row["target"]: row["width"] for row in report.done}
    assert widths == {str(tmp_path / f"{name[:-4]}.cai"): 64 + i for i, name in enumerate(NAMES)}
    assert sorted(Store(str(tmp_path)).files([".cai"])) == sorted(
        f"{name[:-4]}.cai" for name in NAMES
    )
    sizes = source_sizes(report)
    assert [sizes[str(tmp_path / f"{name[:-4]}.cai")] for name in NAMES] == [
        (files / "photos" / name).stat().st_size for name in NAMES
    ]
    again = encode_corpus([url], str(tmp_path), chosen, suffixes=[".png"], run=Run(retries=0))
    assert (len(again.skipped), again.done) == (len(NAMES), [])
    # Read from a stream before; now the server is asked, since the results are there.
    shutil.rmtree(tmp_path / "_manifest")
    noted = encode_corpus([url], str(tmp_path), chosen, suffixes=[".png"], run=Run(retries=0))
    assert source_sizes(noted) == sizes


def test_single_files_get_the_names_that_they_have(server, tmp_path, monkeypatch):
    work_in_this_process(monkeypatch)
    urls = [f"{server.url}/photos/b%20c.png", f"{server.url}/photos/d%231.png?key=1"]
    report = encode_corpus(urls, str(tmp_path), chosen, suffixes=[], run=Run(retries=0))
    assert report.failed == []
    assert sorted(path.name for path in tmp_path.glob("*.cai")) == ["b c.cai", "d#1.cai"]


def test_what_is_not_there_or_cannot_be_written_is_refused_before_the_work(
    server, tmp_path, monkeypatch
):
    work_in_this_process(monkeypatch)
    with pytest.raises(FileNotFoundError, match=r"nothing\.png does not exist"):
        list_sources([f"{server.url}/nothing.png"], [".png"])
    source = str(tmp_path / "a.png")
    save_crops({source: (0, 0, 64, 64)})
    for place in (f"{server.url}/photos", f"zip://::{server.url}/photos.zip"):
        with pytest.raises(OSError, match="can only be read"):
            encode_corpus([source], place, chosen, suffixes=[".png"])


def test_links_that_lead_elsewhere_are_left_out(tmp_path):
    page = """<a href="?C=N;O=D">Name</a><a href="../">Up</a><a href="/other/x.png">x</a>
        <a href="http://elsewhere.test/y.png">y</a><a href="#top">top</a>
        <a href="a.png">a</a><a href="a.png">again</a><a href="b&amp;c.png">b</a>"""
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "index.html").write_text(page)
    handler = functools.partial(Files, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.whole = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/list"
        assert list(Store(url).files([".png"])) == ["a.png", "b&c.png"]
        server.shutdown()
