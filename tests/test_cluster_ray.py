# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Jobs on a Ray cluster of two nodes on this machine, one of which dies in the middle."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from two_nodes import two_nodes

from compressai.bitstream import BitstreamError, decode_image, read_coded
from compressai.checkpoint import save_checkpoint
from compressai.evaluation import ModelCodec
from compressai.model_choice import ChosenModel
from compressai.models import MeanScaleHyperprior

ray = pytest.importorskip("ray")
resource = pytest.importorskip("resource")
cluster_package = pytest.importorskip("compressai.cluster")
EncodeWorker = cluster_package.EncodeWorker
DecodeWorker = cluster_package.DecodeWorker

ROOT = Path(__file__).parents[1]
IMAGES = 40

# Ray copies its settings with all that it means to drop.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`use_(push_based_shuffle|polars|arrow_tensor_v2)` is deprecated:DeprecationWarning"
)


@pytest.fixture(scope="module")
def cluster():
    # Workers cannot import this module: what they need of it goes along.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with two_nodes() as cluster:
        ray.init(address=cluster.address, log_to_driver=False)
        try:
            yield cluster
        finally:
            ray.shutdown()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    with Image.open(ROOT / "examples" / "assets" / "chelsea.png") as file:
        photo = file.convert("RGB")
    for i in range(IMAGES):
        photo.crop((4 * i, 2 * i, 4 * i + 128, 2 * i + 128)).save(folder / f"{i:02}.png")
    return folder


def chosen() -> ChosenModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = MeanScaleHyperprior(8, 12).eval()
    net.update()
    return ChosenModel(net, "mbt2018-mean", 1, "mse", random_weights=True)


class LoggingEncoder(EncodeWorker):
    """Notes each file that it codes; on a node that is to die, holds on to the fourth."""

    def __init__(self, *args, log, doomed, **kwargs):
        super().__init__(*args, **kwargs)
        self.log = log
        self.doomed = ray.get_runtime_context().get_node_id() == doomed
        self.count = 0

    def write(self, item, content):
        self.count += 1
        if self.doomed and self.count == 4:
            self.note("stuck", item)
            threading.Event().wait()
        if not self.doomed and self.count == 8:
            self.wait_for_the_other()
        super().write(item, content)
        self.note("coded", item)

    def wait_for_the_other(self):
        """Leave something to a node that starts slowly."""
        for _ in range(3000):
            if "stuck" in self.log.read_text():
                return
            time.sleep(0.1)

    def note(self, what, item):
        with open(self.log, "a") as file:
            file.write(f"{what} {Path(item.source).name} {int(self.doomed)}\n")


class FaultyEncoder(EncodeWorker):
    """Meets a fault with each of some images, a real one; notes what it has written."""

    def __init__(self, *args, log, faults, **kwargs):
        super().__init__(*args, **kwargs)
        self.log = log
        self.faults = faults

    def __call__(self, item):
        fault = self.faults.get(Path(item.source).stem)
        if fault == "vanishes":
            Path(item.source).unlink(missing_ok=True)
        with without_rights() if fault == "denied" else contextlib.nullcontext():
            return super().__call__(item)

    def write(self, item, content):
        fault = self.faults.get(Path(item.source).stem)
        once = Path(f"{self.log}.killed")
        if fault == "killed" or (fault == "killed once" and not once.exists()):
            if fault == "killed once":
                once.touch()
            # All is written but for the name.
            os.link = os.replace = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
        with full_disk() if fault == "full" else contextlib.nullcontext():
            super().write(item, content)
        with open(self.log, "a") as file:
            file.write(f"{Path(item.source).stem}\n")


@contextlib.contextmanager
def without_rights():
    """As a user who may read nothing here."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@contextlib.contextmanager
def full_disk():
    """As much as the system can pretend: files of this process end after some bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def encode(photos, target, make_encoder=EncodeWorker, **more):
    return cluster_package.encode_corpus(
        [str(photos)], str(target), chosen, suffixes=[".png"], make_encoder=make_encoder, **more
    )


def test_no_file_is_lost_and_none_coded_twice_when_a_node_dies(cluster, photos, tmp_path):
    log = tmp_path / "log"
    log.touch()
    over = threading.Event()

    def kill_when_stuck():
        while "stuck" not in log.read_text():
            if over.wait(0.05):
                return
        cluster.remove_node(cluster.second, allow_graceful=False)

    doomed = cluster.second.node_id
    killer = threading.Thread(target=kill_when_stuck)
    killer.start()
    try:
        make_encoder = functools.partial(LoggingEncoder, log=log, doomed=doomed)
        report = encode(photos, tmp_path / "coded", make_encoder)
    finally:
        over.set()
        killer.join()

    notes = [line.split() for line in log.read_text().splitlines()]
    coded = [name for what, name, _ in notes if what == "coded"]
    assert sorted(coded) == [f"{i:02}.png" for i in range(IMAGES)]
    assert sum(what == "stuck" for what, _, _ in notes) == 1
    assert sum(what == "coded" and where == "1" for what, _, where in notes) == 3
    assert (len(report.done), report.failed) == (IMAGES, [])
    rows = cluster_package.read_manifest(str(tmp_path / "coded")).to_pylist()
    assert {row["status"] for row in rows} == {"done"}
    assert len(rows) == IMAGES
    for row in rows:
        sample = decode_image(chosen().net, read_coded(Path(row["target"])))
        assert sample.size == (128, 128)
    assert len(encode(photos, tmp_path / "coded").skipped) == IMAGES


FAULTS = {
    "01": ("killed", "died"),
    "03": ("killed once", None),
    "05": ("vanishes", "FileNotFoundError"),
    "07": ("denied", "Permission denied"),
    "09": ("full", "File too large"),
}


def test_faults_lose_nothing_and_are_told(cluster, photos, tmp_path):
    """Workers are killed while they write, a source vanishes, may not be read, a disk is full."""
    sources, target, log = tmp_path / "photos", tmp_path / "coded", tmp_path / "log"
    sources.mkdir()
    everything = [f"{i:02}" for i in range(12)]
    for name in everything:
        shutil.copy(photos / f"{name}.png", sources)
    (sources / "07.png").chmod(0)
    faults = {name: fault for name, (fault, _) in FAULTS.items()}
    make_encoder = functools.partial(FaultyEncoder, log=log, faults=faults)
    report = encode(sources, target, make_encoder, run=cluster_package.Run(retries=0))

    failed = {name: reason for name, (_, reason) in FAULTS.items() if reason}
    done = sorted({*everything} - {*failed})
    assert sorted(log.read_text().split()) == done
    assert Path(f"{log}.killed").exists()
    rows = cluster_package.read_manifest(str(target)).to_pylist()
    told = {Path(row["source"]).stem: row for row in rows}
    assert sorted(told) == everything
    for name, reason in failed.items():
        assert told[name]["status"] == "failed"
        assert reason in told[name]["error"], name
    assert {Path(row["source"]).stem for row in report.failed} == {*failed}
    written = {path: path.stat().st_mtime_ns for path in target.glob("*")}
    assert sorted(path.name for path in written) == [*(f"{n}.cai" for n in done), "_manifest"]

    shutil.copy(photos / "05.png", sources)
    (sources / "07.png").chmod(0o600)
    report = encode(sources, target)
    assert sorted(Path(row["source"]).stem for row in report.done) == sorted(failed)
    assert report.failed == []
    for name in everything:
        path = target / f"{name}.cai"
        assert written.get(path, path.stat().st_mtime_ns) == path.stat().st_mtime_ns
        assert decode_image(chosen().net, read_coded(path)).size == (128, 128)
    assert not [path for path in target.iterdir() if "unfinished" in path.name]


def unusable():
    raise FileNotFoundError("no weights here")


def test_workers_without_a_model_stop_the_job(cluster, photos, tmp_path):
    tries = []

    def choose():
        if tries or os.getpid() != here:
            unusable()
        tries.append(1)
        return chosen()

    here = os.getpid()
    with pytest.raises(RuntimeError, match="no weights here"):
        cluster_package.encode_corpus(
            [str(photos)], str(tmp_path / "coded"), choose, suffixes=[".png"]
        )


def make_codecs():
    return [ModelCodec("mbt2018-mean", {1: chosen().net})], []


def test_corpus_is_measured(cluster, photos, tmp_path):
    sources = [str(path) for path in sorted(photos.iterdir())[:6]]
    result, report = cluster_package.evaluate_corpus(
        sources, make_codecs, str(tmp_path), settings={}
    )
    assert report.failed == []
    assert [point.image for point in result.points] == [f"{i:02}.png" for i in range(6)]


MINE = """
import sys
from compressai import extensions, zoo
from compressai.checkpoint import save_checkpoint
extensions.import_models([sys.argv[1]])
net = zoo.image_models["my-slice-model"](None, N=8, M=16).eval()
net.update()
save_checkpoint(sys.argv[2], net, architecture="my-slice-model", arguments={"N": 8, "M": 16})
"""


def test_program_gives_workers_the_models_that_it_imports(cluster, photos, tmp_path):
    example, weights = ROOT / "examples" / "custom_channel_slice.py", tmp_path / "mine.safetensors"
    coded, decoded = tmp_path / "coded", tmp_path / "decoded"
    environment = {**os.environ, "RAY_ADDRESS": cluster.address}

    def run(*command):
        done = subprocess.run(
            [sys.executable, *map(str, command)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("-c", MINE, example, weights)
    program = ("-m", "compressai", "--import", example)
    chosen = ("--checkpoint", weights)
    ray_options = ("--engine", "ray", "--jobs", 2, "--json")
    sources = sorted(photos.iterdir())[:4]
    run(*program, "encode", *sources, "-o", coded, *chosen, *ray_options)
    assert sorted(path.name for path in coded.glob("*.cai")) == [f"{i:02}.cai" for i in range(4)]
    said = run(*program, "decode", coded, decoded, *chosen, *ray_options)
    assert json.loads(said)["done"] == 4
    # In the folder of results there is a manifest, too.
    for path in sorted(decoded.glob("*.png")):
        with Image.open(path) as image:
            assert image.size == (128, 128)


class DyingDecoder(DecodeWorker):
    """Dies with one of the images in its hands, all of which is written but for the name."""

    def write(self, item, content):
        if Path(item.source).stem == "02" and not (Path(item.target).parent / "_died").exists():
            (Path(item.target).parent / "_died").touch()
            os.link = os.replace = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
        super().write(item, content)


def test_files_are_decoded_although_a_worker_dies(cluster, photos, tmp_path):
    """One is damaged, too, which is told as it is without Ray."""
    weights, coded, decoded = (tmp_path / name for name in ("net.safetensors", "coded", "decoded"))
    arguments = {"N": 8, "M": 12}
    save_checkpoint(weights, chosen().net, architecture="mbt2018-mean", arguments=arguments)
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(photos.iterdir())[:6]:
        shutil.copy(path, few)
    assert len(encode(few, coded).done) == 6
    damaged = coded / "04.cai"
    damaged.write_bytes(damaged.read_bytes()[:-3])
    counts = []
    report = cluster_package.decode_corpus(
        [str(coded)],
        str(decoded),
        checkpoint=weights,
        run=cluster_package.Run(retries=1, on_start=counts.append),
        make_decoder=DyingDecoder,
    )
    assert counts == [6]
    assert sorted(path.name for path in decoded.glob("*.png")) == [
        f"{name}.png" for name in ("00", "01", "02", "03", "05")
    ]
    with pytest.raises(BitstreamError) as caught:
        read_coded(damaged)
    assert [row["error"] for row in report.failed] == [
        f"{type(caught.value).__name__}: {caught.value}"
    ]
    image = decode_image(chosen().net, read_coded(coded / "02.cai"))
    with Image.open(decoded / "02.png") as written:
        assert list(written.getdata()) == list(image.to_image().getdata())
    assert not [path for path in decoded.iterdir() if "unfinished" in path.name]
