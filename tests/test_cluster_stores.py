# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Files of this machine and of elsewhere: stores, and corpora that lie in them."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from local_jobs import chosen, work_in_this_process
from program import save_crops

pytest.importorskip("pyarrow")

from compressai.bitstream import CodedImage, decode_image
from compressai.cluster import Run, Store, encode_corpus, evaluate_corpus, read_manifest, stores
from compressai.cluster.stores import base_name, list_sources
from compressai.evaluation import ModelCodec

NAMES = ("a.png", "more/a.webp")


@pytest.fixture(params=["path", "file://", "memory://"])
def url(request, tmp_path):
    if request.param == "memory://":
        return f"memory://{tmp_path.name}"
    return str(tmp_path) if request.param == "path" else f"file://{tmp_path}"


def test_stores_write_list_and_read(url):
    store = pickle.loads(pickle.dumps(Store(f"{url}/deep")))
    assert store.files() == {}
    with pytest.raises(FileNotFoundError, match="deep"):
        store.is_folder()
    for name in ("b/x.png", "a.PNG", "c.txt", ".d.png", "_e/f.png"):
        store.write(name.encode(), name)
    store.write(b"again", "a.PNG")
    assert store.files() == {"a.PNG": 5, "b/x.png": 7, "c.txt": 5}
    assert list(store.files([".png"])) == ["a.PNG", "b/x.png"]
    assert store.read("b/x.png") == Store(store.join("b/x.png")).read() == b"b/x.png"
    assert store.is_folder()
    assert not Store(store.join("a.PNG")).is_folder()
    assert store.exists("a.PNG")
    assert not store.exists("b")
    assert not store.exists("nothing")
    with pytest.raises(OSError, match="nothing"):
        store.read("nothing")


def test_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda file: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Store(str(tmp_path)).write(b"content", "a")
    assert list(tmp_path.iterdir()) == []


STRANGE = ("IMG#0.png", "IMG#1.png", "what?.png", "50%.png", "%23.png", "a b/c+d é.png", "a::b.png")


def test_names_may_have_characters_that_mean_something_in_urls(url):
    store = Store(f"{url}/strange")
    for name in STRANGE:
        store.write(name.encode(), name)
    assert list(store.files()) == sorted(STRANGE)
    for name in STRANGE:
        one = Store(store.join(name))
        assert one.read() == store.read(name) == name.encode()
        assert not one.is_folder()
        assert one.exists()
        assert base_name(one.url) == name.rpartition("/")[2]
        one.write(b"again")
        assert store.read(name) == b"again"
    assert list(store.files()) == sorted(STRANGE)


def test_files_of_this_machine_are_kept_unless_they_may_be_replaced(tmp_path):
    store = Store(str(tmp_path))
    store.write(b"old", "a")
    with pytest.raises(FileExistsError, match="a exists"):
        store.write(b"new", "a", replace=False)
    assert store.read("a") == b"old"


def test_unknown_schemes_are_refused():
    with pytest.raises(ValueError, match="nonsense://"):
        Store("nonsense://x/y")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file:///photos/a#1.png", "%23 for #"),
        ("file:///photos/a?.png", r"%3F for \?"),
        ("file:///my photos", "%20 for a space"),
        ("s3://bucket/my photos?region=local", "%20 for a space"),
        ("s3://bucket/photos?region=local&regoin=x", "Unexpected query parameter.*regoin"),
        ("s3://bucket/photos?region=local&scheme=htp", "Invalid S3 connection scheme"),
        ("gs://bucket/photos?regoin=x", "Unexpected query parameter.*regoin"),
    ],
)
def test_wrong_urls_of_pyarrow_say_what_is_wrong(url, words):
    with pytest.raises(ValueError, match=words) as caught:
        Store(url)
    assert url in str(caught.value)


class Recorder:
    """A file system of PyArrow that only tells what is asked of it."""

    def __init__(self, type_name):
        self.type_name = type_name
        self.calls = []

    def create_dir(self, path, recursive):
        self.calls.append(("create_dir", path))

    def open_output_stream(self, path):
        self.calls.append(("open_output_stream", path))
        return io.BytesIO()


@pytest.mark.parametrize(("kind", "folders"), [("s3", 0), ("gcs", 0), ("abfs", 1)])
def test_object_stores_get_no_folders(tmp_path, kind, folders):
    store = Store(str(tmp_path))
    store._connection = recorder, _ = Recorder(kind), "bucket/coded"
    store.write(b"x", "more/a.cai")
    made = [("create_dir", "bucket/coded/more")] * folders
    assert recorder.calls == [*made, ("open_output_stream", "bucket/coded/more/a.cai")]


@pytest.mark.parametrize(
    ("options", "opened"),
    [
        ("", "?allow_delayed_open=true"),
        ("?region=local", "?region=local&allow_delayed_open=true"),
        ("?allow_delayed_open=false", "?allow_delayed_open=false"),
    ],
)
def test_small_files_go_to_s3_in_one_request(monkeypatch, options, opened):
    asked = []

    def from_uri(url):
        asked.append(url)
        return None, ""

    monkeypatch.setattr(stores.fs, "FileSystem", SimpleNamespace(from_uri=from_uri))
    store = Store(f"s3://bucket/a{options}")
    assert asked == [f"s3://bucket/a{opened}"]
    assert store.url == f"s3://bucket/a{options}"


# -- corpora ---------------------------------------------------------------------------------------


def make_codecs():
    return [ModelCodec("mbt2018-mean", {1: chosen().net})], []


@pytest.fixture
def in_this_process(monkeypatch):
    work_in_this_process(monkeypatch)


@pytest.mark.parametrize("scheme", ["memory", "local"])
def test_corpus_may_lie_in_any_file_system_of_fsspec(tmp_path, in_this_process, scheme):
    """Sources, results and manifest; a rerun finds what is done."""
    sources, target = (Store(f"{scheme}://{tmp_path}/{name}") for name in ("sources", "coded"))
    for name in NAMES:
        path = tmp_path / Path(name).name
        save_crops({path: (0, 0, 80, 64)})
        sources.write(path.read_bytes(), name)
    sources.write(b"no image", "broken.png")

    suffixes = (".png", ".webp")
    report = encode_corpus([sources.url], target.url, chosen, suffixes=suffixes, run=Run(retries=1))
    assert len(report.done) == 2
    failed = [(row["source"], row["attempts"]) for row in report.failed]
    assert failed == [(sources.join("broken.png"), 2)]
    assert list(target.files()) == ["a.cai", "more/a.cai"]
    for row in report.done:
        content = Store(row["target"]).read()
        assert len(content) == row["bytes"]
        assert decode_image(chosen().net, CodedImage.from_bytes(content)).size == (80, 64)
    assert sorted(read_manifest(target.url)["status"].to_pylist()) == ["done", "done", "failed"]
    again = encode_corpus([sources.url], target.url, chosen, suffixes=suffixes, run=Run(retries=0))
    assert (len(again.skipped), again.done, len(again.failed)) == (2, [], 1)

    urls, figures = [sources.join(name) for name in NAMES], f"{scheme}://{tmp_path}/figures"
    measured, report = evaluate_corpus(urls, make_codecs, figures, settings={})
    assert len(measured.points) == len(report.done) == read_manifest(figures).num_rows == 2


def test_corpus_of_strange_names_is_coded_and_measured(url, tmp_path, in_this_process):
    """None is lost, or taken for another, and a rerun finds what is done."""
    sources, target = Store(f"{url}/sources"), Store(f"{url}/coded")
    for i, name in enumerate(STRANGE):
        save_crops({tmp_path / "a.png": (0, 0, 64 + i, 64)})
        sources.write((tmp_path / "a.png").read_bytes(), name)
    report = encode_corpus(
        [sources.url], target.url, chosen, suffixes=(".png",), run=Run(retries=0)
    )
    assert report.failed == []
    assert list(target.files()) == sorted(f"{name[:-4]}.cai" for name in STRANGE)
    for i, name in enumerate(STRANGE):
        assert CodedImage.from_bytes(target.read(f"{name[:-4]}.cai")).width == 64 + i
    urls = [sources.join(name) for name in STRANGE]
    again = encode_corpus([sources.url], target.url, chosen, suffixes=(".png",))
    assert sorted(row["source"] for row in again.skipped) == sorted(urls)
    assert again.done == []
    # One by one, they get their own names too.
    single = encode_corpus([urls[0]], f"{url}/single", chosen, suffixes=())
    assert [row["target"] for row in single.done] == [Store(f"{url}/single").join("IMG#0.cai")]

    measured, report = evaluate_corpus([sources.url], make_codecs, f"{url}/figures", settings={})
    assert report.failed == []
    assert sorted(point.image for point in measured.points) == sorted(
        name.rpartition("/")[2] for name in STRANGE
    )


def test_rest_of_a_chain_stays_behind_the_name():
    store = "zip://photos::memory://a.zip"
    assert Store.join(SimpleNamespace(url=store), "b.png") == "zip://photos/b.png::memory://a.zip"
    assert base_name("zip://photos/b.png::memory://a.zip") == "b.png"


@pytest.mark.parametrize("root", ["zip://::{}", "zip://::file://{}", "zip:///::{}"])
def test_roots_of_archives_are_complete(tmp_path, root):
    names = ("a.png", "b/a.png", "b/c/a.png", "zip.png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            archive.writestr(name, name)
    url = root.format(tmp_path / "a.zip")
    assert list(Store(url).files()) == list(names)
    sources = list_sources([url], [".png"])
    assert sorted(sources.values()) == list(names)
    assert {Store(source).read().decode() for source in sources} == set(names)
    below = root.replace("//::", "//b::").format(tmp_path / "a.zip")
    if "//b::" in below:
        assert list(Store(below).files()) == ["a.png", "c/a.png"]


@pytest.mark.parametrize("root", ["memory://", "memory:///"])
def test_roots_of_file_systems_are_complete(root):
    store = Store(root)
    store.write(b"x", "root of stores/a.png")
    assert "root of stores/a.png" in store.files()
    assert Store(store.join("root of stores/a.png")).read() == b"x"


def test_root_of_this_machine_is_a_store(tmp_path):
    name = str(tmp_path / "a.png").lstrip("/")
    Path("/", name).write_bytes(b"x")
    for root in ("/", "file:///"):
        assert Store(Store(root).join(name)).read() == Store(root).read(name) == b"x"


def test_options_of_an_url_stay_behind_its_path(tmp_path):
    options = "?endpoint_override=127.0.0.1:9000&scheme=http&region=local"
    store = Store(f"s3://bucket/photos{options}")
    assert store.join("more/a.png") == f"s3://bucket/photos/more/a.png{options}"
    assert base_name(store.join("more/a.png")) == "a.png"
    strange = str(tmp_path / "what?")
    assert Store(strange).join("a") == f"{strange}/a"
    assert base_name(strange) == "what?"
