# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Weights that travel: installed, published, served, and loaded elsewhere."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from program import MODEL, save_crops
from tiny_nets import SIZES, tiny_net
from torch import nn

import compressai
from compressai import hub
from compressai.bitstream import read_coded
from compressai.models import CompressionModel, MeanScaleHyperprior, ScaleHyperprior
from compressai.registry import ENTRIES
from compressai.zoo.weights import installed_files

pytestmark = pytest.mark.usefixtures("folder", "rows_stay")


@pytest.fixture
def rows_stay() -> Iterator[None]:
    """Names of weights become rows, which are not for other tests."""
    before = set(ENTRIES)
    yield
    for added in set(ENTRIES) - before:
        del ENTRIES[added]


@pytest.fixture
def published(run, checkpoints: Path, folder: Path) -> Path:
    """A folder with two qualities of weights under a name of their own."""
    for quality in (1, 2):
        path = checkpoints / f"{quality - 1}.safetensors"
        assert run("weights", "add", path, "--model", "my-photos", "-q", quality)[0] == 0
    save_crops({folder / "shots" / "a.png": (0, 0, 96, 64)})
    Path("LICENCE.txt").write_text("You may.")
    where = folder / "public"
    status, _, err = run(
        *("weights", "publish", "my-photos", where, "--images", "shots"),
        *("--licence", "CC-BY-4.0", "--licence-file", "LICENCE.txt"),
    )
    assert (status, err) == (0, "")
    assert run("weights", "remove", "my-photos")[0] == 0
    return where


class Handler(http.server.SimpleHTTPRequestHandler):
    """A folder as a server and as a hub: every revision of every repository is that folder."""

    def translate_path(self, path: str) -> str:
        _, resolved, name = path.partition("/resolve/main/")
        return super().translate_path(f"/{name}" if resolved else path)

    def end_headers(self) -> None:
        file = Path(self.translate_path(self.path))
        if file.is_file():
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            self.send_header("ETag", f'"{digest}"')
            self.send_header("X-Repo-Commit", "0" * 40)
        else:
            self.send_header("X-Error-Code", "EntryNotFound")
        super().end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(published: Path) -> Iterator[str]:
    handler = functools.partial(Handler, directory=str(published))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{served.server_port}"
        finally:
            served.shutdown()
            thread.join()


def same(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


def test_checkpoint_becomes_an_entry(run, photo, checkpoint: Path) -> None:
    status, out, err = run("weights", "add", checkpoint, "-q", 2)
    assert (status, err) == (0, "")
    assert f"--model {MODEL} -q 2" in out
    net = compressai.zoo.mbt2018_mean(2, pretrained=True)
    assert same(net, compressai.load(checkpoint))
    assert run("encode", "photo.png", "--model", MODEL, "-q", 2)[::2] == (0, "")
    coded = read_coded("photo.cai")
    assert (coded.model, coded.quality, coded.random_weights) == (MODEL, 2, False)
    assert run("decode", "photo.cai", "-o", "back.png")[::2] == (0, "")


def test_checkpoint_becomes_an_entry_of_its_own_name(run, photo, checkpoint: Path) -> None:
    assert run("weights", "add", checkpoint, "--model", "my-photos", "-q", 1)[0] == 0
    assert run("encode", "photo.png", "--model", "my-photos")[::2] == (0, "")
    assert read_coded("photo.cai").model == "my-photos"
    assert run("decode", "photo.cai", "-o", "back.png")[::2] == (0, "")
    net = compressai.zoo.my_photos(1, pretrained=True)
    assert isinstance(net, MeanScaleHyperprior)
    assert same(net, compressai.load(checkpoint))
    assert ENTRIES["my-photos"].qualities == (1, 1)


def test_state_dict_needs_to_be_told_what_it_is_of(run, checkpoints: Path) -> None:
    plain = checkpoints / "weights.pth"
    status, _, err = run("weights", "add", plain, "-q", 1)
    assert status == 1
    assert "--model" in err
    status, _, err = run("weights", "add", plain, "--model", MODEL)
    assert status == 1
    assert "--quality" in err
    assert run("weights", "add", plain, "--model", MODEL, "-q", 1)[0] == 0
    assert same(
        compressai.zoo.mbt2018_mean(1, pretrained=True), compressai.load(plain, architecture=MODEL)
    )


def test_names_of_other_models_are_refused(run, checkpoint: Path) -> None:
    status, _, err = run("weights", "add", checkpoint, "--model", "bmshj2018-factorized", "-q", 1)
    assert status == 1
    assert "another name" in err
    assert not [file for file in installed_files() if not file.shipped]


def test_list_path_and_remove(run, checkpoints: Path, folder: Path) -> None:
    assert run("weights", "path")[1].strip() == str(folder / "weights")
    for seed in range(2):
        assert run("weights", "add", checkpoints / f"{seed}.safetensors", "-q", seed + 1)[0] == 0
    out = run("weights", "list", "--json")[1]
    listed = [w for w in json.loads(out)["weights"] if not w["shipped"]]
    assert [(w["model"], w["metric"], w["quality"]) for w in listed] == [
        (MODEL, "mse", 1),
        (MODEL, "mse", 2),
    ]
    assert all(Path(w["file"]).stat().st_size == w["bytes"] for w in listed)
    assert MODEL in run("weights", "list")[1]
    assert run("weights", "path", MODEL, "-q", 2)[1].strip() == listed[1]["file"]
    other = run("weights", "add", checkpoints / "1.safetensors", "-q", 1)
    assert other[0] == 1
    assert run("weights", "add", checkpoints / "1.safetensors", "-q", 1, "--overwrite")[0] == 0
    assert run("weights", "remove", MODEL, "-q", 1)[0] == 0
    assert [w.quality for w in installed_files() if not w.shipped] == [2]
    assert run("weights", "remove", MODEL, "-q", 1)[0] == 1
    assert run("weights", "remove", "lite")[0] == 1


def test_published_folder_holds_all_that_belongs_to_weights(published: Path) -> None:
    index = json.loads((published / hub.INDEX).read_text())
    assert (index["model"], index["architecture"], index["licence"]) == (
        *("my-photos", MODEL, "CC-BY-4.0"),
    )
    assert [file["quality"] for file in index["files"]] == [1, 2]
    for file in index["files"]:
        content = (published / file["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file["sha256"]
    card = (published / "README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-4.0\n")
    assert (published / "LICENSE").read_text() == "You may."
    curve = json.loads((published / "rd.json").read_text())["curves"][0]["results"]
    for bpp in curve["bpp"]:
        assert f"{bpp:.4f}" in card


def test_published_folder_installs_from_every_place(
    run, published: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESSAI_ALLOW_HTTP", "1")
    for source in (published, published.as_uri(), server, f"{server}/{hub.INDEX}"):
        status, out, err = run("weights", "add", source, "--json")
        assert status == 0, err
        found = json.loads(out)["weights"]
        assert [(w["model"], w["quality"]) for w in found] == [("my-photos", 1), ("my-photos", 2)]
        assert run("weights", "remove", "my-photos")[0] == 0
    assert run("weights", "add", server, "-q", 2)[0] == 0
    assert [w.quality for w in installed_files() if not w.shipped] == [2]
    assert run("weights", "add", server, "-q", 5)[0] == 1


def test_models_load_from_every_place(
    published: Path, server: str, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESSAI_ALLOW_HTTP", "1")
    expected = compressai.load(checkpoints / "1.safetensors")
    for source in (str(published), published, published.as_uri(), server):
        assert same(MeanScaleHyperprior.from_pretrained(source, quality=2), expected)
    with pytest.raises(ValueError, match="several fit"):
        MeanScaleHyperprior.from_pretrained(published)
    tiny_net("bmshj2018-factorized").save_pretrained("other", architecture="bmshj2018-factorized")
    with pytest.raises(ValueError, match="is no ScaleHyperprior"):
        ScaleHyperprior.from_pretrained("other")
    assert same(hub.from_pretrained(checkpoints / "1.safetensors"), expected)
    monkeypatch.delenv("COMPRESSAI_ALLOW_HTTP")
    with pytest.raises(RuntimeError, match="https"):
        hub.from_pretrained(server, quality=2)


def test_models_load_from_a_hub(
    run, server: str, folder: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "ENDPOINT", server)
    template = f"{server}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))
    expected = compressai.load(checkpoints / "0.safetensors")
    assert same(hub.from_pretrained("hf://me/my-photos", quality=1), expected)
    assert same(hub.from_pretrained("hf://me/my-photos@main", quality=1), expected)
    assert run("weights", "add", "hf://me/my-photos", "-q", 1)[0] == 0
    # What was fetched is kept, for those without a network.
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert same(hub.from_pretrained("hf://me/my-photos", quality=1), expected)
    with pytest.raises(OSError, match="not kept here"):
        hub.from_pretrained("hf://me/others", quality=1)
    for bad in ("hf://me", "hf://me/my photos"):
        with pytest.raises(ValueError, match="OWNER/NAME"):
            hub.from_pretrained(bad)


def test_saved_models_come_back(folder: Path) -> None:
    net = tiny_net(MODEL)
    path = net.save_pretrained(
        "mine", architecture=MODEL, arguments=SIZES[MODEL], licence="CC0-1.0", metric="mse"
    )
    assert path == Path("mine/model.safetensors")
    assert same(MeanScaleHyperprior.from_pretrained("mine"), net)
    # Now it knows its name.
    again = MeanScaleHyperprior.from_pretrained("mine")
    again.save_pretrained("again", arguments=SIZES[MODEL])
    assert same(CompressionModel.from_pretrained("again"), net)
    with pytest.raises(FileExistsError):
        net.save_pretrained("mine", architecture=MODEL, replace=False)
    with pytest.raises(ValueError, match="architecture must be given"):
        tiny_net(MODEL).save_pretrained("nameless")


def break_index(folder: Path, **changes: object) -> None:
    path = folder / hub.INDEX
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format"),
        ({"model": 3}, "model"),
        ({"files": []}, "no files"),
        ({"files": [{"file": "../x", "sha256": "0" * 64, "metric": "mse"}]}, "name"),
        ({"files": [{"file": "x", "sha256": "0", "metric": "mse"}]}, "SHA-256"),
        ({"files": [{"file": "x", "sha256": "0" * 64, "metric": "?"}]}, "metric"),
        (
            {"files": [{"file": "x", "sha256": "0" * 64, "metric": "mse", "quality": "1"}]},
            "quality",
        ),
    ],
)
def test_damaged_index_is_one_error(changes: dict[str, object], message: str) -> None:
    tiny_net(MODEL).save_pretrained("mine", architecture=MODEL, arguments=SIZES[MODEL])
    break_index(Path("mine"), **changes)
    with pytest.raises(ValueError, match=message):
        hub.from_pretrained("mine")
    Path("mine", hub.INDEX).write_text("[" * 100_000)
    with pytest.raises(ValueError, match="no JSON"):
        hub.from_pretrained("mine")


def test_damaged_weights_are_refused() -> None:
    path = tiny_net(MODEL).save_pretrained("mine", architecture=MODEL, arguments=SIZES[MODEL])
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="damaged"):
        hub.from_pretrained("mine")


def test_places_without_weights_are_told(folder: Path) -> None:
    for source in ("nowhere", "hollow"):
        Path("hollow").mkdir(exist_ok=True)
        with pytest.raises(FileNotFoundError):
            hub.from_pretrained(source)
    with pytest.raises(ValueError, match="revision"):
        hub.from_pretrained("hollow", revision="main")


def test_publishing_needs_weights_and_a_licence(run, checkpoint: Path) -> None:
    save_crops({"a.png": (0, 0, 96, 64)})
    arguments = ["weights", "publish", MODEL, "public", "--images", "a.png", "--licence"]
    assert "no weights" in run(*arguments, "MIT")[2]
    assert run("weights", "add", checkpoint, "-q", 1)[0] == 0
    assert "licence" in run(*arguments, "")[2]
    assert not Path("public").exists()
    assert run(*arguments, "MIT")[0] == 0
    assert run(*arguments, "MIT")[0] == 1
    shutil.rmtree("public")


def test_published_file_comes_before_installed_ones(
    run, checkpoint: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compressai.zoo import weights as zoo_weights

    assert run("weights", "add", checkpoint, "-q", 1)[0] == 0
    draft = folder / "weights" / "draft"
    torch.save(tiny_net(MODEL, 5).state_dict(), draft)
    digest = hashlib.sha256(draft.read_bytes()).hexdigest()
    name = f"{MODEL}-1-{digest[:8]}.pth.tar"
    monkeypatch.setattr(zoo_weights, "published_weights", lambda: {MODEL: {"mse": {"1": name}}})
    assert same(compressai.zoo.mbt2018_mean(1, pretrained=True), compressai.load(checkpoint))
    draft.rename(folder / "weights" / name)
    published = compressai.zoo.mbt2018_mean(1, pretrained=True)
    assert not same(published, compressai.load(checkpoint))
