# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The C library gives what the torch side gives: latents to the bit, pixels, files and errors."""

from __future__ import annotations

import importlib.util
import io
import json
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_library import LIBRARY, ROOT, CError, Model, Runner, build, decode, encode, error_of
from PIL import Image
from test_bitstream_damage import mutated
from test_runtime_rates import QUALITIES, integers_of, net_of_any_rate
from tiny_nets import one_thread, tiny_net

from compressai.bitstream import (
    BitstreamError,
    CodedImage,
    ImageData,
    decode_image,
    encode_image,
    parse_coded,
    read_image,
)
from compressai.models.base import ModelIdentity
from compressai.runtime import Bundle

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
from compressai.inference import export_bundle  # noqa: E402

SEEDS = Path(__file__).parent / "fuzz" / "seeds"
PHOTO = ROOT / "examples" / "assets" / "chelsea.png"
RATES = ("lite", "lite-integer")
LEVELS = "mbt2018-mean-vbr"
KINDS = (*RATES, "mbt2018-mean", "bmshj2018-hyperprior", "bmshj2018-factorized")


def lite_net(kind: str) -> Any:
    """A small lite, of integers or not."""
    net = net_of_any_rate()
    return net if kind == "lite" else integers_of(net)


class Coder:
    """A small model for both sides."""

    def __init__(self, library: Any, kind: str, folder: Path) -> None:
        self.net = lite_net(kind) if kind.startswith("lite") else tiny_net(kind)
        quality = None if kind in (*RATES, LEVELS) else 2
        self.net.identity = ModelIdentity(kind, quality, "mse")
        path = folder / f"{kind}.caibundle"
        export_bundle(self.net, path)
        self.content = path.read_bytes()
        self.bundle = Bundle.read(self.content)
        self.model = Model(library, self.content)
        self.sessions: dict[str, Any] = {}
        self.recorded: list[np.ndarray] = []

    def run(self, network: str, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        if network not in self.sessions:
            session = onnxruntime.InferenceSession(self.bundle.network(network))
            self.sessions[network] = session
        outputs = [told["name"] for told in self.bundle.manifest["networks"][network]["outputs"]]
        results = self.sessions[network].run(outputs, inputs)
        self.recorded += results
        return results

    def samples(self, coded: CodedImage) -> np.ndarray:
        """What torch decodes."""
        return np.asarray(decode_image(self.net, coded).to_image())


@pytest.fixture(scope="module")
def library() -> Any:
    return build()


def opened(library: Any, kind: str, tmp_path_factory: Any) -> Iterator[Coder]:
    with one_thread():
        made = Coder(library, kind, tmp_path_factory.mktemp("bundle"))
        yield made
    made.model.close()


@pytest.fixture(scope="module", params=KINDS)
def coder(library: Any, request: Any, tmp_path_factory: Any) -> Iterator[Coder]:
    yield from opened(library, request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def lite(library: Any, tmp_path_factory: Any) -> Iterator[Coder]:
    yield from opened(library, "lite", tmp_path_factory)


def photo(size: tuple[int, int] = (150, 100)) -> Image.Image:
    with Image.open(PHOTO) as image:
        return image.convert("RGB").resize(size)


def sample(mode: str = "RGB", size: tuple[int, int] = (150, 100)) -> ImageData:
    return read_image(photo(size).convert(mode))


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    difference = np.abs(found.squeeze().astype(int) - expected)
    return difference.max() <= 1 and (difference != 0).mean() < 1e-3


@pytest.mark.parametrize("tile", [None, 64])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_decoder_gives_latents_and_pixels_of_torch(coder: Coder, mode: str, tile: Any) -> None:
    coded = encode_image(coder.net, sample(mode), tile=tile)
    found, latent_hash = decode(coder.model, coded.to_bytes(), coder.run)
    assert latent_hash == coded.tiles[-1].y_hat_hash
    assert close(found, coder.samples(coded))
    if tile:
        region = (50, 20, 40, 70)
        part, _ = decode(coder.model, coded.to_bytes(), coder.run, region)
        assert np.array_equal(part, found[20:90, 50:90])


@pytest.mark.parametrize("tile", [0, 64])
def test_torch_decodes_what_the_encoder_makes(coder: Coder, tile: int) -> None:
    samples = np.asarray(photo())
    alpha = replace(sample("RGBA"), alpha=Image.new("L", (150, 100), 99)).alpha_png()
    content = encode(
        coder.model,
        samples,
        coder.run,
        tile_size=tile,
        tile_overlap=tile // 4,
        alpha=alpha,
        alpha_size=len(alpha),
    )
    coded = parse_coded(content)
    model = coder.net.identity.model
    assert (coded.model, coded.metric) == (model, "mse")
    assert coded.quality == (50 if model in RATES else 2) == coder.model.qualities[0]
    assert (coded.width, coded.height, coded.mode, coded.alpha) == (150, 100, "RGBA", alpha)
    assert len(coded.tiles) == (6 if tile else 1)
    found, latent_hash = decode(coder.model, content, coder.run)
    assert latent_hash == coded.tiles[-1].y_hat_hash
    decoded = decode_image(coder.net, coded)  # which compares hashes
    assert close(found, np.asarray(decoded.to_image().convert("RGB")))
    assert coded.to_bytes() == content


def test_interleaved_strings_are_read_and_written(library: Any, tmp_path: Path) -> None:
    with one_thread():
        coder = Coder(library, "mbt2018-mean", tmp_path)
        noise = np.random.default_rng(0).integers(0, 256, (1024, 1536, 3), dtype=np.uint8)
        coded = encode_image(coder.net, read_image(Image.fromarray(noise)))
        content = coded.to_bytes()
        assert content[5] & 32
        found, latent_hash = decode(coder.model, content, coder.run)
        assert latent_hash == coded.tiles[0].y_hat_hash
        assert close(found, coder.samples(coded))
        made = encode(coder.model, noise, coder.run)
        assert made[5] & 32
        assert parse_coded(made).to_bytes() == made
        decode_image(coder.net, parse_coded(made))  # compares hashes
        small = encode(coder.model, np.asarray(photo()), coder.run)
        assert not small[5] & 32
        coder.model.close()


@pytest.fixture(scope="module", params=RATES)
def varied(library: Any, request: Any, tmp_path_factory: Any) -> Iterator[Coder]:
    yield from opened(library, request.param, tmp_path_factory)


@pytest.mark.parametrize("quality", [*QUALITIES, 0.5 / 2**16 + 12])
def test_any_quality_codes_as_torch_does(varied: Coder, quality: float) -> None:
    assert varied.model.qualities == (50, 0, 100)
    coded = encode_image(varied.net, sample(), quality=quality, tile=64)
    found, latent_hash = decode(varied.model, coded.to_bytes(), varied.run)
    assert latent_hash == coded.tiles[-1].y_hat_hash
    assert close(found, varied.samples(coded))
    tiling = {"tile_size": coded.tile_size, "tile_overlap": coded.tile_overlap}
    content = encode(varied.model, np.asarray(photo()), varied.run, quality, **tiling)
    made = parse_coded(content)
    assert made.quality == coded.quality
    # Guards are those of torch, too: beyond them, only what engines round differently differs.
    assert len(content) == pytest.approx(len(coded.to_bytes()), rel=0.01)
    found, latent_hash = decode(varied.model, content, varied.run)
    assert latent_hash == made.tiles[-1].y_hat_hash
    assert close(found, varied.samples(made))  # which compares hashes


def test_qualities_beyond_the_scale_are_refused(
    varied: Coder, library: Any, tmp_path: Path
) -> None:
    samples = np.asarray(photo((64, 64)))
    for quality in (-1, 100.5, float("nan")):
        with pytest.raises(CError, match=r"ValueError: quality must be in 0 \.\.\. 100"):
            encode(varied.model, samples, varied.run, quality)
    fixed = Coder(library, "mbt2018-mean", tmp_path)
    with pytest.raises(CError, match=r"ValueError: quality must be in 2 \.\.\. 2"):
        encode(fixed.model, samples, fixed.run, 3)
    fixed.model.close()
    coded = encode_image(varied.net, sample())
    _same_refusal(varied, replace(coded, quality=100.5))
    _same_refusal(varied, replace(coded, quality=12.5))  # other latents than those of the hash


@pytest.fixture(scope="module")
def levelled(library: Any, tmp_path_factory: Any) -> Iterator[Coder]:
    yield from opened(library, LEVELS, tmp_path_factory)


def test_each_level_codes_as_torch_does(levelled: Coder) -> None:
    assert levelled.model.qualities == (8, 1, 8)
    for quality in (None, *range(1, 9)):
        coded = encode_image(levelled.net, sample(), quality=quality, tile=64)
        found, latent_hash = decode(levelled.model, coded.to_bytes(), levelled.run)
        assert latent_hash == coded.tiles[-1].y_hat_hash
        assert close(found, levelled.samples(coded))
        content = encode(levelled.model, np.asarray(photo()), levelled.run, quality)
        made = parse_coded(content)
        assert (made.quality, type(made.quality)) == (quality or 8, int)
        found, latent_hash = decode(levelled.model, content, levelled.run)
        assert latent_hash == made.tiles[-1].y_hat_hash
        assert close(found, levelled.samples(made))  # which compares hashes


def test_qualities_that_are_no_levels_are_refused(levelled: Coder) -> None:
    samples = np.asarray(photo((64, 64)))
    for quality, why in ((0, r"in 1 \.\.\. 8"), (2.5, "a whole number")):
        with pytest.raises(CError, match=f"ValueError: quality must be {why}"):
            encode(levelled.model, samples, levelled.run, quality)
    coded = encode_image(levelled.net, sample())
    for quality in (9, 2.5, 3.0):
        _same_refusal(levelled, replace(coded, quality=quality))
    told = levelled.bundle.manifest["rate"]
    values = {name: {**one, "values": "z.medians"} for name, one in told["factors"].items()}
    fields: tuple[dict[str, Any], ...] = ({"high": 9}, {"low": 2}, {"default": 2.5})
    for field in (*fields, {"whole": False}, {"factors": {}}, {"factors": values}):
        with pytest.raises(CError) as refusal:
            Model(levelled.model.library, with_manifest(levelled, rate={**told, **field}))
        assert refusal.value.name == "BundleError"


def test_bundles_of_damaged_rates_are_refused(varied: Coder) -> None:
    told = varied.bundle.manifest["rate"]
    one, *others = told["factors"]
    cases: list[dict[str, Any]] = [{"low": 60}, {"high": 300}, {"default": "x"}, {"factors": {}}]
    for field in ({"middle": "nothing"}, {"steps": "z_gain.steps"}, {"digits": 99}, {"falls": 1}):
        cases.append({"factors": {**told["factors"], one: {**told["factors"][one], **field}}})
    cases.append({"factors": {name: told["factors"][name] for name in others}})
    for case in cases:
        with pytest.raises(CError) as refusal:
            Model(varied.model.library, with_manifest(varied, rate={**told, **case}))
        assert refusal.value.name == "BundleError"
    Model(varied.model.library, with_manifest(varied, rate=told)).close()


def with_manifest(coder: Coder, **fields: Any) -> bytes:
    """The bundle, with other fields of its manifest."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(coder.content)) as source, zipfile.ZipFile(changed, "w") as out:
        out.writestr("bundle.json", json.dumps({**coder.bundle.manifest, **fields}))
        for entry in source.infolist()[1:]:
            out.writestr(entry, source.read(entry))
    return changed.getvalue()


def test_all_that_strings_tell_of_rounding_is_read_by_torch(lite: Coder) -> None:
    # From no shift at all, over all distributions of ranks, to values that no shift suits.
    samples = np.asarray(photo())
    for tolerance in (1e-9, 1e-5, 3e-5, 5e-5, 7e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.02):
        content = encode(lite.model, samples, lite.run, tolerance=tolerance)
        decode_image(lite.net, parse_coded(content))  # compares hashes
        decode(lite.model, content, lite.run)


def test_example_is_c_and_decodes_a_real_file(lite: Coder, tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    include = ROOT / "compressai/cpp_exts/cai"
    flags = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{include}"]
    source = ROOT / "examples/c/decode.c"
    linked = [f"-L{LIBRARY.parent}", "-lcai", f"-Wl,-rpath,{LIBRARY.parent}"]
    program = tmp_path / "decode"
    subprocess.run([compiler, *flags, source, *linked, "-o", program], check=True)
    coded = encode_image(lite.net, sample())
    lite.recorded.clear()
    expected, _ = decode(lite.model, coded.to_bytes(), lite.run)
    names = ("model.caibundle", "coded.cai", "decoded.ppm", "recording")
    files = [tmp_path / name for name in names]
    files[0].write_bytes(lite.content)
    files[1].write_bytes(coded.to_bytes())
    files[3].write_bytes(b"".join(np.ascontiguousarray(array).tobytes() for array in lite.recorded))
    subprocess.run([program, *files], check=True)
    with Image.open(files[2]) as decoded:
        assert np.array_equal(np.asarray(decoded), expected)
    files[3].write_bytes(b"")
    run = subprocess.run([program, *files], capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr == "RuntimeError: the network h_s failed\n"


@pytest.mark.parametrize("seed", sorted((SEEDS / "container").glob("*.cai")), ids=lambda p: p.stem)
def test_damaged_files_raise_the_errors_of_python(library: Any, seed: Path) -> None:
    targets = _fuzz_targets()
    rng, content = random.Random(0), seed.read_bytes()
    cases = [content, *(content[:end] for end in range(0, len(content), 7))]
    cases += [mutated(content, rng) for _ in range(300)]
    cases += [targets.fitting_sums(mutated(content, rng)) for _ in range(300)]
    seen = set()
    for case in cases:
        if (len(case) > 4 and case[4] == 1) or case[:1] not in (b"", b"\x93"):
            continue  # of other formats, which the library refuses as such
        try:
            parse_coded(case)
            expected = ""
        except BitstreamError as error:
            expected = type(error).__name__
        assert error_of(library, case) == expected, case
        seen.add(expected)
    assert seed.stem.startswith("v1") or len(seen) > 3


def _fuzz_targets() -> Any:
    path = str(SEEDS.parent)
    sys.path.insert(0, path)
    try:
        spec = importlib.util.spec_from_file_location("targets", SEEDS.parent / "targets.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(path)
    return module


def test_damaged_strings_raise_the_errors_of_python(coder: Coder) -> None:
    rng = random.Random(1)
    coded = encode_image(coder.net, sample(size=(64, 64)))
    for _ in range(40):
        strings = list(coded.tiles[0].strings)
        place = rng.randrange(len(strings))
        strings[place] = mutated(strings[place], rng)
        changed = replace(coded, tiles=(replace(coded.tiles[0], strings=tuple(strings)),))
        _same_refusal(coder, changed)
    fewer = replace(coded.tiles[0], strings=coded.tiles[0].strings[:-1] or (b"",) * 3)
    _same_refusal(coder, replace(coded, tiles=(fewer,)))
    _same_refusal(coder, replace(coded, fingerprint=bytes(8)))
    _same_refusal(coder, replace(coded, icc=bytes(100)))


def _same_refusal(coder: Coder, coded: CodedImage) -> None:
    expected, image = "", None
    try:
        image = decode_image(coder.net, coded).to_image()
    except BitstreamError as error:
        expected = type(error).__name__
    if image is None:
        assert refused(coder, coded) == expected
    else:  # what was changed has no meaning
        found, _ = decode(coder.model, coded.to_bytes(), coder.run)
        assert close(found, np.asarray(image))


def refused(coder: Coder, coded: CodedImage, run: Runner | None = None, **options: Any) -> str:
    with pytest.raises(CError) as refusal:
        decode(coder.model, coded.to_bytes(), run or coder.run, **options)
    return refusal.value.name


def test_what_else_is_refused(lite: Coder) -> None:
    coded = encode_image(lite.net, sample())
    assert refused(lite, coded, max_pixels=100) == "TooLargeError"
    assert refused(lite, coded, region=(100, 0, 51, 1)) == "ValueError"
    plain = encode_image(lite.net, sample(), sync_safe=False)
    assert refused(lite, plain) == "UnsupportedFileError"

    def broken(network: str, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [np.full_like(result, np.nan) for result in lite.run(network, inputs)]

    def wrong(network: str, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [result + 0.01 for result in lite.run(network, inputs)]

    assert refused(lite, coded, broken) == "DesyncError"
    assert refused(lite, coded, wrong) == "DesyncError"


def test_tiles_that_take_too_much_memory_are_refused(lite: Coder) -> None:
    model = Model(lite.model.library, with_manifest(lite, bytes_a_pixel=1000))
    coded = encode_image(lite.net, sample())
    for side, expected in ((2112, "TooLargeError"), (2048, "DesyncError")):
        content = replace(coded, width=side, height=side).to_bytes()
        with pytest.raises(CError) as refusal:
            decode(model, content, lite.run)
        assert refusal.value.name == expected
    model.close()


def test_bundles_that_are_damaged_or_of_another_version_are_refused(lite: Coder) -> None:
    content, rng = lite.content, random.Random(2)
    middle = len(content) // 2
    changed = content[:middle] + bytes((content[middle] ^ 1,)) + content[middle + 1 :]
    cases = [b"x", content[:-50], changed, content.replace(b'"version": 1', b'"version": 3')]
    cases += [mutated(content[-3000:], rng) for _ in range(50)]
    manifest = content.index(b"bundle.json") + 11, content.index(b"PK", 100)
    for _ in range(200):  # its checksum is not looked at before it is parsed, but refuses it all
        place = rng.randrange(*manifest)
        cases.append(content[:place] + bytes((rng.randrange(256),)) + content[place + 1 :])
    for case in cases:
        if case == content:
            continue
        with pytest.raises(CError) as refusal:
            Model(lite.model.library, case)
        assert refusal.value.name == "BundleError"
