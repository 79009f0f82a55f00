# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Jobs over many files: nothing lost, nothing twice, failures recorded, reruns go on.

Workers run in this process here; ``test_cluster_ray.py`` has the same on Ray.
"""

from __future__ import annotations

import copy
import datetime
import functools
import json
import shutil
from pathlib import Path

import pytest
from local_jobs import chosen, local_pass, work_in_this_process
from PIL import Image
from program import save_crops

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq

from compressai.bitstream import CodedImage, decode_image, read_coded
from compressai.bitstream.hashes import hash_weights
from compressai.cluster import (
    Item,
    Manifest,
    Run,
    Store,
    encode_corpus,
    evaluate_corpus,
    read_manifest,
    run_job,
)
from compressai.cluster import encode as encode_module
from compressai.cluster import engine as engine_module
from compressai.cluster import evaluate as evaluate_module
from compressai.cluster.engine import ray_cluster
from compressai.cluster.job import work_on
from compressai.cluster.manifest import SCHEMA
from compressai.evaluation import ModelCodec, evaluate, find_codec
from compressai.inference import prepare

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("compressai.cluster.job._PAUSE_SECONDS", 0.0)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    names = ("a.png", "b.png", "more/a.jpg", "more/c.webp")
    save_crops({folder / name: (20 * i, 0, 20 * i + 80, 64) for i, name in enumerate(names)})
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def in_this_process(monkeypatch):
    work_in_this_process(monkeypatch)


def encode(photos, target, **more):
    arguments = {"suffixes": [".png", ".jpg", ".webp"], **more}
    return encode_corpus([str(photos)], str(target), chosen, **arguments)


def names(rows, root):
    return sorted(str(Path(row["source"]).relative_to(root)) for row in rows)


ALL = ["a.png", "b.png", "more/a.jpg", "more/c.webp"]


# -- whole corpora ---------------------------------------------------------------------------------


def test_corpus_is_coded_and_decodes(photos, tmp_path, in_this_process):
    report = encode(photos, tmp_path / "coded")
    assert names(report.done, photos) == ALL
    assert (report.failed, report.skipped) == ([], [])
    for name in ALL:
        coded = read_coded((tmp_path / "coded" / name).with_suffix(".cai"))
        assert decode_image(chosen().net, coded).size == (80, 64)
    table = read_manifest(str(tmp_path / "coded"))
    assert sorted(table["status"].to_pylist()) == ["done"] * 4
    for row in table.to_pylist():
        assert Path(row["target"]).stat().st_size == row["bytes"]
        assert (row["width"], row["height"], row["attempts"]) == (80, 64, 1)
        assert json.loads(row["settings"])["fingerprint"] == coded.fingerprint.hex()


def test_second_run_has_nothing_to_do(photos, tmp_path, in_this_process, monkeypatch):
    encode(photos, tmp_path / "coded")
    monkeypatch.setattr(engine_module, "ray_cluster", lambda: 1 / 0)
    report = encode(photos, tmp_path / "coded")
    assert names(report.skipped, photos) == ALL
    assert report.done == []


def test_run_goes_on_where_one_stopped(photos, tmp_path, in_this_process):
    def stop(row):
        if row["source"].endswith("b.png"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(photos, tmp_path / "coded", run=Run(on_row=stop))
    report = encode(photos, tmp_path / "coded")
    assert names(report.skipped, photos) == ALL[:2]
    assert names(report.done, photos) == ALL[2:]
    assert len(read_manifest(str(tmp_path / "coded"))) == 4


def test_result_without_a_row_is_noted_and_not_made_again(photos, tmp_path, in_this_process):
    encode(photos, tmp_path / "coded")
    target = tmp_path / "coded" / "a.cai"
    before = target.stat().st_mtime_ns
    for part in (tmp_path / "coded" / "_manifest").iterdir():
        part.unlink()
    report = encode(photos, tmp_path / "coded")
    assert names(report.done, photos) == ALL
    assert target.stat().st_mtime_ns == before
    assert {row["width"] for row in read_manifest(str(tmp_path / "coded")).to_pylist()} == {80}


def test_result_that_is_gone_is_made_again(photos, tmp_path, in_this_process):
    encode(photos, tmp_path / "coded")
    (tmp_path / "coded" / "b.cai").unlink()
    report = encode(photos, tmp_path / "coded")
    assert names(report.done, photos) == ["b.png"]
    assert (tmp_path / "coded" / "b.cai").exists()


def test_bad_images_are_recorded_and_stop_nothing(photos, tmp_path, in_this_process):
    (photos / "b.png").write_bytes(b"not an image")
    report = encode(photos, tmp_path / "coded")
    assert names(report.failed, photos) == ["b.png"]
    assert report.failed[0]["attempts"] == 3
    assert "ValueError" in report.failed[0]["error"]
    assert len(report.done) == 3

    # Repaired, it is done; the manifest tells the last state.
    with Image.open(photos / "a.png") as photo:
        photo.save(photos / "b.png")
    assert names(encode(photos, tmp_path / "coded").done, photos) == ["b.png"]
    status = {r["source"]: r["status"] for r in read_manifest(str(tmp_path / "coded")).to_pylist()}
    assert set(status.values()) == {"done"}


def test_results_of_another_model_are_not_mixed_in(photos, tmp_path, in_this_process):
    encode(photos, tmp_path / "coded")
    other = functools.partial(chosen, 1)
    with pytest.raises(ValueError, match="name another folder"):
        encode_corpus([str(photos)], str(tmp_path / "coded"), other, suffixes=[".png"])
    report = encode_corpus(
        [str(photos)], str(tmp_path / "coded"), other, suffixes=[".png"], overwrite=True
    )
    assert len(report.done) == 2
    fingerprint = read_coded(tmp_path / "coded" / "a.cai").fingerprint
    assert fingerprint != read_coded(tmp_path / "coded" / "more" / "a.cai").fingerprint


@pytest.mark.parametrize("seed", [1, 0])
def test_overwriting_goes_on_after_a_death(photos, tmp_path, in_this_process, monkeypatch, seed):
    """Results of another model, or of the same with other options, are replaced in any pass."""

    def losing_pass(items, make_worker, number, retries, *, workers):
        kept = [item for item in items if number or not item.source.endswith("b.png")]
        yield from local_pass(kept, make_worker, number, retries, workers=workers)

    target = str(tmp_path / "coded")
    encode_corpus([str(photos)], target, functools.partial(chosen, seed), suffixes=[".png"])
    before = (tmp_path / "coded" / "b.cai").read_bytes()
    assert len(read_coded(tmp_path / "coded" / "b.cai").tiles) == 1
    monkeypatch.setattr(engine_module, "ray_pass", losing_pass)
    report = encode(photos, target, suffixes=[".png"], overwrite=True, options={"tile": 64})
    assert (names(report.done, photos), report.failed) == (ALL[:2], [])
    coded = read_coded(tmp_path / "coded" / "b.cai")
    assert len(coded.tiles) == 2
    assert coded.to_bytes() != before
    assert decode_image(chosen().net, coded).size == (80, 64)


@pytest.mark.parametrize("content", [b"something else", None])
def test_foreign_files_are_not_replaced(photos, tmp_path, in_this_process, content):
    target = tmp_path / "coded" / "a.cai"
    target.parent.mkdir()
    if content is None:
        encode_corpus(
            [str(photos / "a.png")], str(tmp_path / "x"), functools.partial(chosen, 1), suffixes=[]
        )
        content = (tmp_path / "x" / "a.cai").read_bytes()
    target.write_bytes(content)
    report = encode(photos, tmp_path / "coded")
    assert names(report.failed, photos) == ["a.png"]
    assert "overwrite replaces it" in report.failed[0]["error"]
    assert target.read_bytes() == content
    assert len(encode(photos, tmp_path / "coded", overwrite=True).done) == 4
    CodedImage.from_bytes(target.read_bytes())


def test_sources_that_cannot_be_worked_on_are_refused(photos, tmp_path, in_this_process):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        encode(tmp_path / "nowhere", tmp_path / "coded")
    with pytest.raises(ValueError, match="no image"):
        encode(photos, tmp_path / "coded", suffixes=[".tiff"])
    shutil.copytree(photos, tmp_path / "others")
    with pytest.raises(ValueError, match="both become"):
        encode_corpus(
            [str(photos), str(tmp_path / "others")],
            str(tmp_path / "coded"),
            chosen,
            suffixes=[".png"],
        )


def test_workers_with_other_weights_refuse_to_begin(photos, tmp_path):
    seeds = iter((0, 1))
    settings = encode_module.describe_model(chosen(next(seeds)))
    with pytest.raises(RuntimeError, match="on this machine"):
        encode_module.EncodeWorker(lambda: chosen(next(seeds)), settings, False, {})


def make_codecs():
    return [ModelCodec("mbt2018-mean", {1: chosen().net})], [find_codec("jpeg")]


def test_corpus_is_measured_as_by_one_process(photos, tmp_path, in_this_process):
    def figures(evaluation):
        points = [(p.image, p.codec, p.quality, p.bytes, p.psnr) for p in evaluation.points]
        return sorted(points, key=str)

    (photos / "b.png").write_bytes(b"not an image")
    arguments = ([str(photos)], make_codecs, str(tmp_path / "figures"))
    result, report = evaluate_corpus(*arguments, settings={"model": "x"})
    assert names(report.failed, photos) == ["b.png"]
    files = [photos / name for name in ALL if name != "b.png"]
    expected = evaluate(files, *make_codecs())
    assert result.tested == ["mbt2018-mean"]
    assert len({name for name, *_ in figures(result)}) == 3
    same_names = [(Path(name).name, *rest) for name, *rest in figures(result)]
    assert sorted(same_names, key=str) == sorted(
        [(Path(name).name, *rest) for name, *rest in figures(expected)], key=str
    )

    again, report = evaluate_corpus(*arguments, settings={"model": "x"})
    assert figures(again) == figures(result)
    assert (len(report.skipped), len(report.done), len(report.failed)) == (3, 0, 1)
    with pytest.raises(ValueError, match="name another folder"):
        evaluate_corpus(*arguments, settings={"model": "y"})


def test_figures_of_other_weights_are_not_mixed_in(photos, tmp_path, in_this_process):
    """The settings are the same, the weights at hand are not; or the precision."""

    def make(seed, encoder_seed=None, **options):
        net = prepare(chosen(seed).net, **options) if options else chosen(seed).net
        if encoder_seed is not None:
            # Decoded by the same weights, and yet with other figures.
            net = copy.deepcopy(net)
            net.g_a.load_state_dict(chosen(encoder_seed).net.g_a.state_dict())
        return [ModelCodec("mbt2018-mean", {1: net})], []

    arguments = {"manifest": str(tmp_path / "figures"), "settings": {"model": "x"}}
    evaluate_corpus([str(photos)], functools.partial(make, 0), **arguments)
    [settings] = set(read_manifest(arguments["manifest"])["settings"].to_pylist())
    [tested] = json.loads(settings)["tested"]
    expected = {"weights": hash_weights(chosen().net).hex(), "precision": "fp32"}
    assert tested["nets"] == {"1": expected}
    for other in ({"seed": 1}, {"seed": 0, "encoder_seed": 1}, {"seed": 0, "precision": "bf16"}):
        with pytest.raises(ValueError, match="name another folder"):
            evaluate_corpus([str(photos)], functools.partial(make, **other), **arguments)
    _, report = evaluate_corpus([str(photos)], functools.partial(make, 0), **arguments)
    assert (len(report.skipped), report.done) == (4, [])


def test_workers_with_other_weights_refuse_to_measure():
    identities = [codec.identity() for codec in make_codecs()[0]]
    evaluate_module.EvaluateWorker(make_codecs, identities, lpips=False)
    with pytest.raises(RuntimeError, match="on this machine"):
        evaluate_module.EvaluateWorker(
            lambda: ([ModelCodec("mbt2018-mean", {1: chosen(1).net})], []), identities, lpips=False
        )


# -- jobs ------------------------------------------------------------------------------------------


class Flaky:
    """Fails the first times, by name."""

    def __init__(self, failures):
        self.failures = failures
        self.calls = []

    def __call__(self, item):
        self.calls.append(item.source)
        if self.failures.get(item.source, 0) > 0:
            self.failures[item.source] -= 1
            raise OSError("busy")
        return {"bytes": 3, "answer": item.source}


def job(tmp_path, run_pass, sources, retries=2):
    manifest = Manifest(Store(str(tmp_path)), {"a": 1})
    items = [Item(source) for source in sources]
    report = run_job(items, lambda number: None, manifest, run_pass, retries=retries)
    return report, {row["source"]: row for row in read_manifest(str(tmp_path)).to_pylist()}


def test_failures_are_tried_again(tmp_path):
    worker = Flaky({"b": 2, "c": 3})
    rows = {row["source"]: row for row in work_on(worker, list(map(Item, "abc")), retries=2)}
    assert worker.calls == ["a", "b", "b", "b", "c", "c", "c"]
    assert [rows[name]["status"] for name in "abc"] == ["done", "done", "failed"]
    assert [rows[name]["attempts"] for name in "abc"] == [1, 3, 3]
    assert rows["a"]["bytes"] == 3
    assert json.loads(rows["a"]["result"]) == {"answer": "a"}
    assert rows["c"]["error"] == "OSError: busy"


def test_files_of_dead_workers_go_into_the_next_pass(tmp_path):
    passes = []

    def run_pass(items, make_worker, number, retries):
        passes.append([item.source for item in items])
        alive = [item for item in items if (item.source, number) not in {("b", 0), ("d", 0)}]
        yield list(work_on(Flaky({}), alive, retries))

    report, manifest = job(tmp_path, run_pass, "abcd")
    assert passes == [list("abcd"), list("bd")]
    assert sorted(row["source"] for row in report.done) == list("abcd")
    assert {row["status"] for row in manifest.values()} == {"done"}


def test_file_that_kills_its_worker_is_given_up(tmp_path):
    passes = []

    def run_pass(items, make_worker, number, retries):
        passes.append([item.source for item in items])
        yield list(work_on(Flaky({}), [item for item in items if item.source != "b"], retries))

    report, manifest = job(tmp_path, run_pass, "abc")
    assert passes == [list("abc"), ["b"], ["b"], ["b"]]
    assert [row["source"] for row in report.failed] == ["b"]
    assert "died, 3 times" in manifest["b"]["error"]
    assert manifest["a"]["status"] == manifest["c"]["status"] == "done"


def test_rows_that_come_twice_count_once(tmp_path):
    def run_pass(items, make_worker, number, retries):
        yield from [list(work_on(Flaky({}), items, retries))] * 2

    report, _ = job(tmp_path, run_pass, "ab")
    assert len(report.done) == 2


def test_what_was_done_is_kept_when_the_job_breaks(tmp_path):
    def run_pass(items, make_worker, number, retries):
        yield list(work_on(Flaky({}), items[:1], retries))
        raise RuntimeError("no cluster")

    with pytest.raises(RuntimeError, match="no cluster"):
        job(tmp_path, run_pass, "ab")
    assert read_manifest(str(tmp_path))["source"].to_pylist() == ["a"]


def test_wrong_jobs_are_refused(tmp_path):
    with pytest.raises(ValueError, match="source of its own"):
        job(tmp_path, None, "aa")
    with pytest.raises(ValueError, match="retries"):
        job(tmp_path, None, "a", retries=-1)


def test_manifest_is_written_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("compressai.cluster.manifest._PART_ROWS", 2)
    manifest = Manifest(Store(str(tmp_path)), {})
    for name in "abcde":
        manifest.add(list(work_on(Flaky({}), [Item(name)], 0)))
    assert len(list((tmp_path / "_manifest").iterdir())) == 2
    manifest.flush()
    manifest.flush()
    assert len(list((tmp_path / "_manifest").iterdir())) == 3
    assert sorted(manifest.known()) == list("abcde")


def test_missing_ray_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ImportError, match=r"compressai-torch\[ray\]"), ray_cluster():
        pass


# -- command line ----------------------------------------------------------------------------------


def program(capsys, *arguments):
    from compressai.cli import main

    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return stopped.value.code, said.out, said.err


def test_program_codes_a_corpus(photos, tmp_path, in_this_process, capsys, monkeypatch):
    monkeypatch.setattr("compressai.model_choice.choose_model", lambda *args, **kwargs: chosen())
    (photos / "b.png").write_bytes(b"not an image")
    words = ("encode", photos, tmp_path / "coded", "--engine", "ray", "--retries", 0, "--json")
    status, out, err = program(capsys, *words)
    assert status == 1
    assert "RANDOM" in err
    report = json.loads(out)
    assert (report["done"], len(report["failed"])) == (3, 1)
    (photos / "b.png").unlink()
    before = sum(path.stat().st_size for path in photos.rglob("*.*") if path.suffix != ".txt")
    after = sum(path.stat().st_size for path in (tmp_path / "coded").rglob("*.cai"))
    assert (report["bytes"], report["source_bytes"]) == (after, before)
    assert report["saving"] == pytest.approx(1 - after / before)
    status, out, _ = program(capsys, *words)
    assert status == 0
    figures = {"done": 0, "skipped": 3, "failed": [], "seconds": 0.0}
    assert json.loads(out) == {**figures, "random_weights": True}
    # Also of files that are there already, and are only noted.
    shutil.rmtree(tmp_path / "coded" / "_manifest")
    status, out, _ = program(capsys, *words[:-1], "-v")
    assert status == 0
    assert f"source bytes       {before}" in out
    assert f"saving             {1 - after / before:.1%}" in out
    assert out.count("% saved") == 3


def test_program_measures_a_corpus(photos, tmp_path, in_this_process, capsys, monkeypatch):
    monkeypatch.setattr("compressai.model_choice.choose_model", lambda *args, **kwargs: chosen())
    words = ("eval", photos, "--engine", "ray", "--quality", 1, "--model", "mbt2018-mean")
    manifest = ("--manifest", tmp_path / "figures", "--no-lpips", "--json")
    status, out, err = program(capsys, *words, *manifest)
    assert status == 0, err
    assert len(json.loads(out)["points"]) == 4
    assert read_manifest(str(tmp_path / "figures")).num_rows == 4


@pytest.mark.parametrize(
    "words",
    [
        ("encode", "photos", "--engine", "ray"),
        ("encode", "-", "coded", "--engine", "ray"),
        ("eval", "photos", "--engine", "ray"),
        ("eval", "photos", "--engine", "ray", "--manifest", "m", "--html", "page.html"),
        ("eval", "photos", "--manifest", "m"),
        ("eval", "photos", "--jobs", 2),
        ("eval", "photos", "--retries", 2),
        ("encode", "photos", "--retries", 0),
        ("encode", "photos", "coded", "--engine", "ray", "--device", "cuda"),
        ("eval", "photos", "--engine", "ray", "--manifest", "m", "--device", "cuda"),
    ],
)
def test_options_that_do_not_go_together_are_refused(words, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    status, _, err = program(capsys, *words)
    assert status == 2
    assert "Usage" in err


# -- manifests as accidents leave them -------------------------------------------------------------


def add_rows(folder, *rows):
    (folder / "_manifest").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), SCHEMA), folder / "_manifest" / "x.parquet")


def test_rows_that_lack_something_do_not_stop_a_job(tmp_path):
    row = {"source": "a", "status": "failed", "finished": None}
    late = {**row, "status": "done", "finished": datetime.datetime.now(datetime.timezone.utc)}
    add_rows(
        tmp_path, late, row, {"source": None}, {"source": "b"}, {"source": "c", "status": "done"}
    )
    manifest = Manifest(Store(str(tmp_path)), {})
    assert {name: row["status"] for name, row in manifest.known().items()} == {
        "a": "done",
        "b": None,
        "c": "done",
    }
    assert read_manifest(str(tmp_path)).num_rows == 3


def test_rows_without_figures_are_measured_again(photos, tmp_path, in_this_process):
    one = str(photos / "a.png")
    add_rows(tmp_path, {"source": one, "status": "done", "settings": "of another"})
    result, report = evaluate_corpus([one], make_codecs, str(tmp_path), settings={})
    assert (len(report.done), report.skipped) == (1, [])
    assert result.points


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no Parquet file at all", b"PAR1" + bytes(99)])
def test_damaged_files_of_a_manifest_are_named(tmp_path, content):
    (tmp_path / "_manifest").mkdir()
    (tmp_path / "_manifest" / "part.parquet").write_bytes(content)
    for read in (Manifest(Store(str(tmp_path)), {}).known, lambda: read_manifest(str(tmp_path))):
        with pytest.raises(ValueError, match=r"part\.parquet is no part of a manifest.*remove it"):
            read()
