# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Image datasets: what they hold, in which order, and how they fail."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import os
import pickle
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from compressai.bitstream import read_image
from compressai.datasets import ImageFolder, PreGeneratedMemmapDataset, Vimeo90kDataset
from compressai.datasets.cache import CacheDataset
from compressai.datasets.ndarray import NdArrayDataset
from compressai.datasets.stack import StackDataset
from compressai.datasets.utils import download_url, hash_file
from compressai.registry import DATASETS


def write_image(path, mode="RGB", size=(8, 6), colour=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = (10, 20, 30) if colour is None and mode == "RGB" else colour
    Image.new(mode, size, colour or 0).save(path)


def test_datasets_are_registered():
    for dataset in (ImageFolder, PreGeneratedMemmapDataset, Vimeo90kDataset):
        assert DATASETS[dataset.__name__] is dataset


class TestImageFolder:
    def test_empty_splits_have_length_zero(self, tmp_path):
        for split in ("train", "test"):
            (tmp_path / split).mkdir()
            assert len(ImageFolder(tmp_path, split=split)) == 0

    def test_images_count_in_order_and_nothing_else_does(self, tmp_path):
        folder = tmp_path / "train"
        (folder / "below.png").mkdir(parents=True)
        write_image(folder / "below.png" / "a.png")
        for name in ("img2.png", "img0.webp", "IMG1.PNG"):
            write_image(folder / name)
        # Pillow knows these by their content.
        (folder / "img3").write_bytes((folder / "img2.png").read_bytes())
        (folder / "img4.kodak").write_bytes((folder / "img2.png").read_bytes())
        for name in (".DS_Store", "._img2.png", "Thumbs.db", "README", "notes.txt", "list.csv"):
            (folder / name).write_bytes(b"Bud1 and what else such files hold")
        os.mkfifo(folder / "pipe.png")
        dataset = ImageFolder(str(tmp_path))
        names = ["IMG1.PNG", "img0.webp", "img2.png", "img3", "img4.kodak"]
        assert [path.name for path in dataset.samples] == names
        assert len(dataset) == 5

    def test_damaged_files_are_named(self, tmp_path):
        write_image(tmp_path / "train" / "cut.png", size=(64, 64))
        content = (tmp_path / "train" / "cut.png").read_bytes()
        for part in (content[: len(content) - 30], content[:20], b""):
            (tmp_path / "train" / "cut.png").write_bytes(part)
            with pytest.raises(ValueError, match=r"train/cut\.png"):
                ImageFolder(tmp_path)[0]

    def test_errors_of_the_transform_name_the_file_and_its_size(self, tmp_path):
        write_image(tmp_path / "train" / "small.png", size=(20, 30))
        with pytest.raises(ValueError, match=r"small\.png \(20 x 30\).*crop size"):
            ImageFolder(tmp_path, transform=transforms.RandomCrop(64))[0]

    def test_wide_greyscale_is_scaled_as_coding_does(self, tmp_path):
        ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (8, 1))
        folder = tmp_path / "train"
        folder.mkdir()
        Image.fromarray(ramp).save(folder / "a16.png")
        Image.fromarray(ramp).save(folder / "b16.tif")
        Image.fromarray(ramp.astype(np.int32)).save(folder / "c32.tif")
        Image.fromarray((ramp / 65535).astype(np.float32)).save(folder / "d01.tif")
        for path, item in zip((dataset := ImageFolder(tmp_path)).samples, dataset):
            coded = read_image(path).to_image().convert("RGB")
            assert item.mode == "RGB"
            assert np.array_equal(np.asarray(item), np.asarray(coded)), path
            assert len(np.unique(np.asarray(item))) == 64

    def test_orientation_and_profile_are_applied_as_coding_does(self, tmp_path):
        (tmp_path / "train").mkdir()
        exif = Image.Exif()
        exif[0x0112] = 6
        image = Image.effect_noise((8, 5), 50).convert("RGB")
        image.save(tmp_path / "train" / "a.png", exif=exif.tobytes())
        item = ImageFolder(tmp_path)[0]
        assert item.size == (5, 8)
        assert np.array_equal(np.asarray(item), np.rot90(np.asarray(image), -1))

    def test_missing_split_is_a_runtime_error(self, tmp_path):
        (tmp_path / "train").mkdir()
        with pytest.raises(RuntimeError, match="test"):
            ImageFolder(tmp_path, split="test")

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
    def test_items_are_rgb_images(self, tmp_path, mode):
        write_image(tmp_path / "train" / "a.png", mode)
        sample = ImageFolder(tmp_path)[0]
        assert isinstance(sample, Image.Image)
        assert (sample.mode, sample.size) == ("RGB", (8, 6))

    def test_transform_is_applied(self, tmp_path):
        write_image(tmp_path / "train" / "a.png", size=(64, 48))
        transform = transforms.Compose([transforms.CenterCrop((16, 24)), transforms.ToTensor()])
        assert ImageFolder(tmp_path, transform=transform)[0].shape == (3, 16, 24)


class TestVimeo90k:
    @pytest.fixture
    def root(self, tmp_path):
        (tmp_path / "tri_trainlist.txt").write_text("00001/0001\n\n00001/0002\n")
        (tmp_path / "sep_testlist.txt").write_text("00002/0001\n")
        for clip, frames in (("00001/0001", 3), ("00001/0002", 3), ("00002/0001", 7)):
            for frame in range(1, frames + 1):
                write_image(tmp_path / "sequences" / clip / f"im{frame}.png", colour=(frame, 0, 0))
        return tmp_path

    def test_items_are_single_frames_in_order_of_the_list(self, root):
        dataset = Vimeo90kDataset(root)
        assert len(dataset) == 6
        assert dataset.samples[4] == str(root / "sequences" / "00001/0002" / "im2.png")
        assert dataset[4].getpixel((0, 0)) == (2, 0, 0)

    def test_septuplets_of_the_valid_split(self, root):
        dataset = Vimeo90kDataset(str(root), transforms.ToTensor(), split="valid", tuplet=7)
        assert len(dataset) == 7
        assert dataset[6].shape == (3, 6, 8)

    @pytest.mark.parametrize("arguments", [{"split": "test"}, {"tuplet": 5}])
    def test_unknown_split_or_tuplet_is_a_key_error(self, root, arguments):
        with pytest.raises(KeyError, match="must be one of"):
            Vimeo90kDataset(root, **arguments)

    def test_missing_list_is_file_not_found(self, root):
        with pytest.raises(FileNotFoundError):
            Vimeo90kDataset(root, split="valid", tuplet=3)


class TestPreGenerated:
    @pytest.fixture
    def images(self, tmp_path):
        data = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)
        data.tofile(tmp_path / "training.npy")
        return data

    def test_items_are_the_rows_of_the_raw_file(self, tmp_path, images):
        dataset = PreGeneratedMemmapDataset(tmp_path, image_size=(4, 6))
        assert len(dataset) == 3
        assert isinstance(dataset[1], Image.Image)
        assert np.array_equal(np.asarray(dataset[1]), images[1])

    def test_pickled_dataset_reopens_its_file(self, tmp_path, images):
        dataset = PreGeneratedMemmapDataset(tmp_path, image_size=(4, 6))
        pickled = pickle.dumps(dataset)
        assert images[1].tobytes() not in pickled
        assert np.array_equal(np.asarray(pickle.loads(pickled)[2]), images[2])

    def test_transform_and_square_size(self, tmp_path):
        np.zeros((2, 4, 4, 3), np.uint8).tofile(tmp_path / "validation.npy")
        dataset = PreGeneratedMemmapDataset(
            tmp_path, transforms.ToTensor(), split="valid", image_size=4
        )
        assert dataset[0].shape == (3, 4, 4)

    def test_errors_have_the_documented_classes(self, tmp_path, images):
        with pytest.raises(RuntimeError):
            PreGeneratedMemmapDataset(tmp_path / "nowhere")
        with pytest.raises(ValueError, match="split"):
            PreGeneratedMemmapDataset(tmp_path, split="test")
        with pytest.raises(FileNotFoundError):
            PreGeneratedMemmapDataset(tmp_path, split="valid")
        with pytest.raises(ValueError, match="multiple"):
            PreGeneratedMemmapDataset(tmp_path, image_size=(5, 7))
        with pytest.raises(ValueError, match="image_size"):
            PreGeneratedMemmapDataset(tmp_path, image_size=(0, 7))
        (tmp_path / "validation.npy").touch()
        with pytest.raises(AssertionError, match="empty"):
            PreGeneratedMemmapDataset(tmp_path, split="valid")


class TestNdArrayDataset:
    def test_items_are_tuples_of_rows(self):
        a, b = np.arange(6).reshape(3, 2), torch.arange(3)
        dataset = NdArrayDataset(a, b)
        assert len(dataset) == 3
        row, number = dataset[1]
        assert (row.tolist(), number.item()) == ([2, 3], 1)
        assert isinstance(NdArrayDataset(a)[0], tuple)

    def test_single_gives_the_bare_row(self):
        assert NdArrayDataset(np.arange(4), single=True)[3] == 3

    def test_errors_have_the_documented_classes(self):
        with pytest.raises(ValueError, match="exactly one"):
            NdArrayDataset(np.arange(4), np.arange(4), single=True)
        with pytest.raises(ValueError, match="at least one"):
            NdArrayDataset()
        with pytest.raises(AssertionError, match="same length"):
            NdArrayDataset(np.arange(4), np.arange(3))


class TestStackDataset:
    def test_tuple_or_dictionary_of_items(self):
        assert StackDataset([1, 2], "ab")[1] == (2, "b")
        assert StackDataset(n=[1, 2], s="ab")[0] == {"n": 1, "s": "a"}
        assert len(StackDataset([1, 2], "ab")) == 2

    def test_bad_combinations_are_value_errors(self):
        for call in (
            lambda: StackDataset(),
            lambda: StackDataset([1], s="a"),
            lambda: StackDataset([1], "ab"),
            lambda: StackDataset(n=[1], s="ab"),
        ):
            with pytest.raises(ValueError, match=r"StackDataset needs|same length"):
                call()


class Squares(CacheDataset):
    """Arrays, tensors and plain integers; can be told to break off."""

    def __init__(self, *args, stop_at=None, n=4, **kwargs):
        super().__init__(*args, **kwargs)
        self.stop_at, self.n, self.loads = stop_at, n, 0
        self._ensure_cache()

    def _get_items(self):
        return list(range(self.n))

    def _load_item(self, item):
        if item == self.stop_at:
            raise KeyboardInterrupt
        self.loads += 1
        return {
            "array": np.full((2, 3), item**2, np.float32),
            "tensor": torch.arange(2) + item,
            "number": item,
        }


class TestCacheDataset:
    def test_items_are_copies_of_the_cached_rows(self, tmp_path):
        dataset = Squares(tmp_path / "cache")
        item = dataset[3]
        assert len(dataset) == 4
        assert item["array"].tolist() == np.full((2, 3), 9).tolist()
        assert (item["tensor"].tolist(), item["number"]) == ([3, 4], 3)
        item["array"][:] = 0
        assert dataset[3]["array"].sum() == 54

    def test_files_have_the_documented_layout(self, tmp_path):
        Squares(tmp_path)
        text = (tmp_path / "info.json").read_text()
        info = json.loads(text)
        assert text == json.dumps(info, indent=2)
        assert info["array"] == {"dtype": "float32", "shape": [4, 2, 3]}
        assert info["tensor"] == {"dtype": "int64", "shape": [4, 2]}
        assert info["number"]["shape"] == [4]
        assert (tmp_path / "array.npy").stat().st_size == 4 * 2 * 3 * 4
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {"info.json", "array.npy", "tensor.npy", "number.npy"}

    def test_complete_cache_is_reused(self, tmp_path, capsys):
        Squares(tmp_path)
        assert str(tmp_path) in capsys.readouterr().out
        again = Squares(tmp_path)
        assert again.loads == 0
        assert again[2]["number"] == 2
        assert capsys.readouterr().out == ""

    def test_cache_written_with_torch_dtype_names_is_read(self, tmp_path):
        Squares(tmp_path)
        info = json.loads((tmp_path / "info.json").read_text())
        info["array"]["dtype"] = "torch.float32"
        (tmp_path / "info.json").write_text(json.dumps(info))
        assert Squares(tmp_path).loads == 0

    @pytest.mark.parametrize("lost", ["info.json", "array.npy"])
    def test_missing_file_makes_the_cache_anew(self, tmp_path, lost):
        Squares(tmp_path)
        (tmp_path / lost).unlink()
        assert Squares(tmp_path).loads == 4
        assert (tmp_path / lost).exists()

    def test_truncated_file_makes_the_cache_anew(self, tmp_path):
        Squares(tmp_path)
        (tmp_path / "array.npy").write_bytes(b"")
        assert Squares(tmp_path)[3]["array"].sum() == 54

    def test_interrupted_generation_leaves_no_cache(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            Squares(tmp_path, stop_at=2)
        assert list(tmp_path.iterdir()) == []
        assert Squares(tmp_path).loads == 4

    def test_transforms_are_applied_before_and_after_the_cache(self, tmp_path):
        dataset = Squares(
            tmp_path,
            pre_transform=lambda data: {"sum": data["array"].sum()},
            transform=lambda item: float(item["sum"]) + 1,
        )
        assert dataset[2] == 25

    def test_pickled_dataset_reopens_its_files(self, tmp_path):
        dataset = pickle.loads(pickle.dumps(Squares(tmp_path)))
        assert (len(dataset), dataset[3]["number"]) == (4, 3)

    def test_bad_samples_and_directories_are_value_errors(self, tmp_path):
        class Ragged(Squares):
            def _load_item(self, item):
                return {"array": np.zeros(item)}

        with pytest.raises(ValueError, match="same keys, dtypes and shapes"):
            Ragged(tmp_path / "a", pre_transform=lambda d: {"array": np.append(d["array"], 1.0)})
        with pytest.raises(ValueError, match="no items"):
            Squares(tmp_path / "b", n=0)
        with pytest.raises(ValueError, match="cache_root"):
            Squares()

    def test_base_class_names_the_missing_method(self, tmp_path):
        with pytest.raises(NotImplementedError, match="_get_items"):
            CacheDataset(tmp_path)._generate_cache()


class TestUtils:
    @pytest.fixture
    def server(self, tmp_path):
        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                if not self.path.startswith("/short"):
                    return super().do_GET()
                self.send_response(200)
                self.send_header("Content-Length", "100")
                self.end_headers()
                self.wfile.write(b"only this")
                return None

        (tmp_path / "served").mkdir()
        (tmp_path / "served" / "a file.bin").write_bytes(bytes(range(256)) * 300)
        handler = functools.partial(Handler, directory=str(tmp_path / "served"))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
            threading.Thread(target=httpd.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{httpd.server_address[1]}"
            httpd.shutdown()

    def test_download_into_a_directory_uses_the_decoded_name(self, server, tmp_path, capsys):
        path = download_url(f"{server}/a%20file.bin", tmp_path)
        assert path == tmp_path / "a file.bin"
        assert path.read_bytes() == bytes(range(256)) * 300
        printed = capsys.readouterr().out
        assert server in printed
        assert str(path) in printed.replace("\n", "")

    def test_file_of_the_announced_length_is_kept_unless_overwrite(self, server, tmp_path):
        path = tmp_path / "x"
        path.write_bytes(b"\0" * 256 * 300)
        download_url(f"{server}/a%20file.bin", path)
        assert path.read_bytes()[:4] == b"\0\0\0\0"
        download_url(f"{server}/a%20file.bin", path, overwrite=True)
        assert path.read_bytes()[:4] == bytes(range(4))

    def test_short_read_is_a_runtime_error_and_leaves_no_file(self, server, tmp_path):
        with pytest.raises(RuntimeError, match="announced 100 bytes, received 9"):
            download_url(f"{server}/short", tmp_path / "y")
        assert not [path for path in tmp_path.iterdir() if path.name.startswith("y")]

    @pytest.mark.parametrize("method", ["sha256", "md5"])
    def test_hash_file_is_the_digest_of_its_bytes(self, tmp_path, method):
        data = b"compress" * 100
        (tmp_path / "x").write_bytes(data)
        assert hash_file(tmp_path / "x", method, bufsize=7) == hashlib.new(method, data).hexdigest()
        with pytest.raises(ValueError):
            hash_file(tmp_path / "x", "no-such-hash")
