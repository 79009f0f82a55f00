# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Files without torch: both engines read each other's, whole, in part and damaged."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from program import program
from tiny_nets import one_thread, tiny_net

from compressai import decode, encode
from compressai.bitstream import (
    BitstreamError,
    CodedImage,
    ImageData,
    UnsupportedFileError,
    WrongWeightsError,
    decode_image,
    encode_image,
    parse_coded,
    read_image,
)
from compressai.models.base import ModelIdentity
from compressai.runtime import RuntimeModel, bundle_file

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
from compressai.inference import export_bundle

run = pytest.fixture(program)

MODEL = "mbt2018-mean"
SIZES = ((70, 50), (64, 64), (200, 130))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "tiny.caibundle"
    with one_thread():
        export_bundle(_net(), path)
    return path


def _net(seed: int = 0) -> Any:
    net = tiny_net(MODEL, seed)
    net.identity = ModelIdentity(MODEL, 1, "mse")
    return net


def _image(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    rng = np.random.Generator(np.random.PCG64(sum(size)))
    small = rng.integers(0, 256, (7, 9, len(mode)), dtype=np.uint8).squeeze()
    return Image.fromarray(small, mode).resize(size)


def _equal(a: ImageData, b: ImageData) -> None:
    assert (a.size, a.mode) == (b.size, b.mode)
    apart = np.abs(np.asarray(a.to_image(), int) - np.asarray(b.to_image(), int))
    assert (apart <= 1).mean() >= 0.9999


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
@pytest.mark.parametrize("tile", [None, 64])
def test_files_of_either_engine_decode_with_the_other(bundle: Path, mode: str, tile: Any) -> None:
    net, runtime = _net(), RuntimeModel(bundle, threads=1)
    for size in SIZES:
        image = _image(size, mode)
        for coder in (net, runtime):
            sample = read_image(image, as_array=coder is runtime)
            coded = parse_coded(encode_image(coder, sample, tile=tile).to_bytes())
            assert (coded.model, coded.quality, coded.sync_safe) == (MODEL, 1, True)
            assert all(tile.y_hat_hash for tile in coded.tiles)
            _equal(decode_image(net, coded), decode_image(runtime, coded))


def test_regions_are_parts_of_the_whole(bundle: Path) -> None:
    runtime = RuntimeModel(bundle, threads=1)
    sample = read_image(_image((200, 130)), as_array=True)
    coded = encode_image(runtime, sample, tile=64, tile_overlap=8)
    whole = decode_image(runtime, coded).pixels
    part = decode_image(runtime, coded, region=(50, 20, 90, 70)).pixels
    np.testing.assert_array_equal(part, whole[:, 20:90, 50:140])


def test_damage_is_told_by_the_same_errors(bundle: Path) -> None:
    net, runtime = _net(), RuntimeModel(bundle, threads=1)
    content = encode_image(net, read_image(_image((150, 130))), tile=64).to_bytes()
    kinds = set()
    rng = np.random.Generator(np.random.PCG64(1))
    coded = CodedImage.from_bytes(content)
    trials: list[Any] = [content[:n] for n in rng.integers(0, len(content), 10)]
    for place in rng.integers(0, len(content), 30):
        changed = bytearray(content)
        changed[place] ^= 1 << rng.integers(8)
        trials.append(bytes(changed))
    # Behind the checksums, too.
    for number in rng.integers(0, len(coded.tiles), 20):
        tile = coded.tiles[number]
        strings = [bytearray(string) for string in tile.strings]
        broken = strings[rng.integers(len(strings))]
        if broken:
            broken[rng.integers(len(broken))] ^= 1 << rng.integers(8)
        tiles = list(coded.tiles)
        tiles[number] = type(tile)(tuple(map(bytes, strings)), tile.y_hat_hash)
        trials.append(type(coded)(**{**vars(coded), "tiles": tuple(tiles)}))
    for trial in trials:
        found = [_outcome(engine, trial) for engine in (net, runtime)]
        assert found[0] == found[1]
        kinds.add(found[0])
    assert len(kinds) >= 3


def _outcome(engine: Any, trial: Any) -> str:
    try:
        coded = trial if isinstance(trial, CodedImage) else parse_coded(trial)
        decode_image(engine, coded)
    except BitstreamError as error:
        return type(error).__name__
    return "decoded"


def test_best_effort_keeps_the_same_tiles(bundle: Path) -> None:
    net, runtime = _net(), RuntimeModel(bundle, threads=1)
    content = bytearray(encode_image(net, read_image(_image((150, 130))), tile=64).to_bytes())
    content[-30] ^= 4
    coded = parse_coded(bytes(content), best_effort=True)
    ours, theirs = (decode_image(engine, coded, best_effort=True) for engine in (runtime, net))
    assert ours.notes == theirs.notes != []
    _equal(ours, theirs)


def test_plain_files_and_other_weights_are_refused_by_name(bundle: Path) -> None:
    net, runtime = _net(), RuntimeModel(bundle, threads=1)
    sample = read_image(_image((64, 64)))
    with pytest.raises(UnsupportedFileError, match=r"coded plainly.*--engine torch"):
        decode_image(runtime, encode_image(net, sample, sync_safe=False))
    with pytest.raises(WrongWeightsError, match="other weights of mbt2018-mean"):
        decode_image(runtime, encode_image(_net(1), sample))
    with pytest.raises(ValueError, match="sync_safe must not be False"):
        encode_image(runtime, sample, sync_safe=False)
    with pytest.raises(ValueError, match="effort must be 1 without torch"):
        encode_image(runtime, sample, effort=2)


def test_all_of_it_needs_no_torch(bundle: Path, tmp_path: Path) -> None:
    program = """
import sys
from compressai.bitstream import decode_image, encode_image, parse_coded
from compressai.bitstream import read_image, save_image
from compressai.runtime import RuntimeModel, bundle_file
runtime = RuntimeModel(sys.argv[1], threads=1)
content = encode_image(runtime, read_image(sys.argv[2], as_array=True)).to_bytes()
save_image(decode_image(runtime, parse_coded(content)), sys.argv[3])
print([name for name in ("torch", "scipy", "onnx") if name in sys.modules])
"""
    _image((70, 50)).save(tmp_path / "in.png")
    arguments = [sys.executable, "-c", program, bundle, tmp_path / "in.png", tmp_path / "out.png"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (70, 50)


# -- bundles that are at hand ---------------------------------------------------------------------


@pytest.fixture
def installed(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A coded image whose model is at hand as a bundle only."""
    monkeypatch.setenv("COMPRESSAI_HOME", str(tmp_path / "home"))
    place = bundle_file(MODEL, 1, "mse")
    place.parent.mkdir(parents=True)
    place.write_bytes(bundle.read_bytes())
    coded = encode_image(_net(), read_image(_image((70, 50))))
    (tmp_path / "a.cai").write_bytes(coded.to_bytes())
    return tmp_path / "a.cai"


def test_decode_takes_the_bundle_that_is_at_hand(installed: Path) -> None:
    assert decode(installed.read_bytes()).size == (70, 50)
    other = encode_image(_net(), read_image(_image((64, 64))), model=MODEL, quality=2)
    with pytest.raises(WrongWeightsError):
        decode(other.to_bytes())


def test_decode_command_says_which_engine_it_took(installed: Path, run: Any) -> None:
    target = installed.with_suffix(".png")
    code, out, err = run("decode", "--json", installed, target)
    assert (code, err, json.loads(out)["engine"]) == (0, "", "runtime")
    code, _, err = run("decode", "--overwrite", "--engine", "torch", installed, target)
    assert (code, "weights" in err) == (1, True)
    bundle_file(MODEL, 1, "mse").unlink()
    code, _, err = run("decode", "--overwrite", "--engine", "runtime", installed, target)
    assert (code, f"no bundle of {MODEL} is at" in err) == (1, True)
    code, _, err = run("decode", "--engine", "runtime", "--device", "cuda", installed, target)
    assert (code, "--engine runtime takes" in err) == (2, True)


def test_encode_and_decode_in_one_call_each() -> None:
    image = _image((70, 50))
    small, large = encode(image, quality=0), encode(image, quality=100)
    assert len(small) < len(large)
    assert decode(large).size == image.size
    with pytest.raises(ValueError, match="quality must be 0 to 100, got 101"):
        encode(image, quality=101)
    with pytest.raises(BitstreamError):
        decode(large[:-3])


def test_one_call_takes_bytes_and_open_files_of_all_kinds(tmp_path: Path) -> None:
    stream = io.BytesIO()
    _image((20, 10)).save(stream, "PNG")
    photo = stream.getvalue()
    data = encode(photo)
    assert encode(bytearray(photo)) == encode(memoryview(photo)) == encode(stream) == data
    (tmp_path / "a.cai").write_bytes(data)
    with (tmp_path / "a.cai").open("rb") as file:
        for given in (data, bytearray(data), memoryview(data), io.BytesIO(data), file):
            assert decode(given).size == (20, 10)


def test_one_call_refuses_other_kinds_by_name() -> None:
    image = _image((20, 10))
    for wrong in (None, 5, np.asarray(image)):
        with pytest.raises(TypeError, match=rf"image must be .*, got {type(wrong).__name__}"):
            encode(wrong)  # type: ignore[arg-type]
    # A number of bytes is no content: a large one took as much memory.
    for wrong in (None, 10**15, io.StringIO("text")):
        with pytest.raises(TypeError, match="data must be the content of a file, or the file, got"):
            decode(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="image must be a file that is open for bytes"):
        encode(io.StringIO("text"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="data must be the name of a file, got an empty one"):
        decode("")
    for wrong in ("75", None, True):
        with pytest.raises(TypeError, match="quality must be a number, got"):
            encode(image, quality=wrong)  # type: ignore[arg-type]
    assert encode(image, quality=np.float32(33)) == encode(image, quality=33)
