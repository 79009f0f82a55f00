# SPDX-License-Identifier: BSD-3-Clause-Clear
"""One model in many threads, processes that are killed, disks that are full."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from bitstream_images import CORPUS, noise
from tiny_nets import tiny_net

import compressai
from compressai._files import atomic_write
from compressai.bitstream import (
    decode_image,
    encode_image,
    read_coded,
    read_image,
    save_image,
    write_coded,
)
from compressai.inference import prepare
from compressai.models import get_scale_table
from compressai.registry import MODELS

THREADS = 8

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def together(function):
    """Results of a function of a number, called in eight threads at once."""
    barrier = threading.Barrier(THREADS)

    def call(number):
        barrier.wait()
        return function(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(call, range(THREADS)))


def round_trip(net, number, quality=None):
    sample = read_image(noise(40 + 7 * number, 90 - 9 * number))
    content = encode_image(net, sample, model="m", quality=quality).to_bytes()
    coded = type(encode_image(net, sample, model="m", quality=quality)).from_bytes(content)
    return content, decode_image(net, coded).pixels


@pytest.mark.parametrize(
    "model", ["mbt2018-mean", "mbt2018", "cheng2020-anchor-checkerboard", "elic2022-official"]
)
def test_eight_threads_code_with_one_model_as_one_does(model):
    net = tiny_net(model)
    alone = [round_trip(tiny_net(model), number) for number in range(THREADS)]
    for (content, pixels), (expected, expected_pixels) in zip(
        together(lambda number: round_trip(net, number)), alone
    ):
        assert content == expected
        assert torch.equal(pixels, expected_pixels)


def test_eight_threads_code_with_a_model_that_was_prepared_for_speed():
    def make():
        return prepare(compressai.load(CORPUS / "lite.safetensors"))

    alone = [round_trip(make(), number) for number in range(THREADS)]
    net = make()
    for (content, pixels), (expected, expected_pixels) in zip(
        together(lambda number: round_trip(net, number)), alone
    ):
        assert content == expected
        assert torch.equal(pixels, expected_pixels)


def test_threads_may_come_first_to_a_model_without_tables_and_in_training_mode():
    expected = round_trip(tiny_net("bmshj2018-factorized"), 0)
    net = tiny_net("bmshj2018-factorized").train()
    for name in ("_quantized_cdf", "_cdf_length", "_offset"):
        setattr(net.entropy_bottleneck, name, torch.empty(0, dtype=torch.int32))
    for content, pixels in together(lambda _: round_trip(net, 0)):
        assert content == expected[0]
        assert torch.equal(pixels, expected[1])
    assert all(module.training for module in net.modules())


def test_threads_with_different_rates_do_not_take_each_others_tables():
    torch.manual_seed(0)
    net = MODELS["mbt2018-mean-vbr"](4, 6, vr_entbttlnck=True).eval()
    with torch.no_grad():
        net.g_a[6].weight.mul_(12)
    net.update(scale_table=get_scale_table(0.11, 16, 12))
    alone = [round_trip(net, number, quality=number + 1) for number in range(THREADS)]
    for one, other in zip(together(lambda n: round_trip(net, n, quality=n + 1)), alone):
        assert one[0] == other[0]
        assert torch.equal(one[1], other[1])


def test_tiles_are_the_same_with_any_number_of_workers():
    net, sample = tiny_net("mbt2018-mean"), read_image(noise(300, 200))
    threads = torch.get_num_threads()
    coded = [encode_image(net, sample, model="m", tile=64, workers=workers) for workers in (1, 3)]
    assert coded[0] == coded[1]
    decoded = [decode_image(net, coded[0], workers=workers).pixels for workers in (1, 3, None)]
    assert torch.equal(decoded[0], decoded[1])
    assert torch.equal(decoded[0], decoded[2])
    assert torch.get_num_threads() == threads
    with pytest.raises(ValueError, match="workers"):
        encode_image(net, sample, model="m", tile=64, workers=0)


def has_nameless_files(folder):
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_RDWR))
    except (AttributeError, OSError):
        return False
    return os.path.isdir(f"/proc/{os.getpid()}/fd")


@pytest.mark.parametrize("old", [True, False])
def test_killed_process_leaves_the_old_file_and_nothing_else(tmp_path, old):
    path = tmp_path / "image.cai"
    if old:
        path.write_bytes(b"old")
    program = (
        "import sys, time; from compressai._files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as unfinished:\n"
        "    unfinished.write_bytes(b'half'); print('written', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
    assert path.exists() == old
    assert not old or path.read_bytes() == b"old"
    if has_nameless_files(tmp_path):
        assert list(tmp_path.iterdir()) == [path] * old
    net = tiny_net("mbt2018-mean")
    write_coded(encode_image(net, read_image(noise(9, 9)), model="m"), path)
    assert read_coded(path).width == 9


@pytest.mark.parametrize("lacks", ["nothing", "nameless files", "links"])
def test_files_are_replaced_on_every_kind_of_file_system(tmp_path, monkeypatch, lacks):
    path = tmp_path / "image.cai"
    if lacks == "nameless files":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    elif lacks == "links":

        def refuse(*args, **kwargs):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refuse)
    for content in (b"new", b"newer"):
        with atomic_write(path) as unfinished:
            unfinished.write_bytes(content * 9)
            unfinished.write_bytes(content)
            assert not path.exists() or path.read_bytes() == b"new"
            if lacks != "nameless files" and has_nameless_files(tmp_path):
                assert list(tmp_path.iterdir()) == [path] * path.exists()
        assert path.read_bytes() == content
        assert list(tmp_path.iterdir()) == [path]
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_errors_of_unfinished_files_name_the_file_that_was_asked_for(tmp_path):
    path = tmp_path / "image.cai"

    def fail():
        with atomic_write(path) as unfinished:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(unfinished))

    with pytest.raises(OSError, match="No space left") as caught:
        fail()
    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_reported_and_nothing_is_lost(tmp_path, monkeypatch):
    path = tmp_path / "image.cai"
    path.write_bytes(b"old")
    net, sample = tiny_net("mbt2018-mean"), read_image(noise(9, 9))
    coded = encode_image(net, sample, model="m")

    def full(self, content):
        with open(self, "wb") as file:
            file.write(content[:3])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_coded(coded, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_no_more_space_in_the_middle_of_a_file_is_reported_and_nothing_is_lost(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "image.cai"
    path.write_bytes(b"old")
    coded = encode_image(tiny_net("mbt2018-mean"), read_image(noise(90, 90)), model="m")
    assert len(coded.to_bytes()) > 100
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # as a quota would
    try:
        with pytest.raises(OSError, match="too large"):
            write_coded(coded, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_images_on_a_full_device_are_refused(tmp_path):
    link = tmp_path / "image.png"
    link.symlink_to("/dev/full")
    with pytest.raises(OSError, match="no regular file"):
        save_image(read_image(noise(9, 9)), link)


def test_unreadable_input_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_coded(tmp_path / "nowhere.cai")
    with pytest.raises(IsADirectoryError):
        read_coded(tmp_path)
