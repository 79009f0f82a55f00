# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Code all raw video of a folder with a classical codec, and measure what comes back."""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compressai.datasets import RawVideoSequence, VideoFormat
from compressai.evaluation.frames import compare_frames, kbps, pooled_metrics
from compressai.transforms import frame_to_planes
from compressai.utils.video._results import (
    find_sequences,
    mean_results,
    to_json,
    write_results,
)
from compressai.utils.video.bench.codecs import HM, VTM, Codec, run_command, x264, x265
from compressai.utils.video.eval_model.byte_fields import filesize as get_filesize

__all__ = [
    "codec_classes",
    "collect",
    "compute_metrics_for_frame",
    "create_parser",
    "evaluate",
    "func",
    "get_filesize",
    "main",
    "run_cmdline",
    "to_tensors",
]

codec_classes: list[type[Codec]] = [x264, x265, VTM, HM]

to_tensors = frame_to_planes


def run_cmdline(cmdline: Sequence[Any], logpath: Path | None = None, dry_run: bool = False) -> None:
    """Show a command line on stderr and run it.

    Args:
        cmdline: program and arguments.
        logpath: file for what it prints.
        dry_run: show it only.

    Raises:
        RuntimeError: it fails.
    """
    print(f"--> Running: {shlex.join(map(str, cmdline))}", file=sys.stderr)
    if dry_run:
        return
    text = run_command(list(cmdline))
    if logpath is not None:
        Path(logpath).write_text(text, encoding="utf-8")


def compute_metrics_for_frame(
    org_frame: np.void, dec_frame: np.void, bitdepth: int = 8
) -> dict[str, Any]:
    """Errors of a 4:2:0 frame, see :func:`compressai.evaluation.frames.compare_frames`."""
    height, width = org_frame["y"].shape
    empty = np.empty(0, np.uint8)
    like = RawVideoSequence(empty, width, height, bitdepth, VideoFormat.YUV420, None)
    return compare_frames(org_frame, dec_frame, like)


def evaluate(
    org_seq_path: str | Path,
    dec_seq_path: str | Path,
    bitstream_path: str | Path,
    cuda: bool = False,
) -> dict[str, float | None]:
    """Compare decoded raw video with its source.

    Args:
        org_seq_path: the source, whose name tells what is in it.
        dec_seq_path: what was decoded, of the same format.
        bitstream_path: the coded file.
        cuda: compare RGB on the GPU.

    Returns:
        ``ms-ssim-rgb``, ``bitrate`` (kbit/s), ``psnr-rgb``, ``psnr-y``, ``psnr-u``, ``psnr-v``,
        ``psnr-yuv``; errors are averaged over the frames before they become decibels.

    Raises:
        NotImplementedError: the source is not 4:2:0.
        RuntimeError: the numbers of frames differ.
        ValueError: the frame rate is unknown.
    """
    source = RawVideoSequence.from_file(org_seq_path)
    if source.format is not VideoFormat.YUV420:
        raise NotImplementedError(f"only yuv420 can be evaluated, got {source.format.value}")
    decoded = RawVideoSequence.new_like(source, dec_seq_path)
    if len(source) != len(decoded):
        raise RuntimeError(
            f"{dec_seq_path} has {len(decoded)} frames, {org_seq_path} has {len(source)}"
        )
    rate = kbps(8 * get_filesize(bitstream_path), len(source), source)
    device = "cuda" if cuda else "cpu"
    frames = [compare_frames(a, b, source, device) for a, b in zip(source, decoded)]
    metrics = pooled_metrics(frames, 2**source.bitdepth - 1)
    return {"ms-ssim-rgb": metrics.pop("ms-ssim-rgb"), "bitrate": rate, **metrics}


def func(
    codec: Codec,
    i: int,
    filepath: Path,
    qp: int,
    outputdir: Path,
    inputdir: Path,
    cuda: bool,
    force: bool,
    dry_run: bool,
) -> tuple[int, Path | None]:
    """Code and measure one sequence at one quality.

    Args:
        codec: the codec.
        i: number of the quality, which is returned.
        filepath: raw video.
        qp: the quality.
        outputdir, inputdir: folders of results and of video.
        cuda: as in :func:`evaluate`.
        force: do again what was done.
        dry_run: only show what would be done.

    Returns:
        ``i``, and the file of results; ``None`` after a dry run.
    """
    binpath = codec.get_bin_path(filepath, qp, binpath=outputdir, inputdir=inputdir)
    results = binpath.with_suffix(".json")
    if dry_run:
        _show(codec, codec.get_encode_cmd(filepath, qp, binpath))
        return i, None
    binpath.parent.mkdir(parents=True, exist_ok=True)
    if force or not binpath.is_file():
        _show(codec, codec.get_encode_cmd(filepath, qp, binpath))
        codec.encode(filepath, qp, binpath, binpath.with_suffix(".log"))
        results.unlink(missing_ok=True)
    if results.is_file():
        print(f"warning: {results} is taken as it is (--force)", file=sys.stderr)
        return i, results
    with tempfile.TemporaryDirectory() as folder:
        decpath = Path(folder) / "decoded.yuv"
        _show(codec, codec.get_decode_cmd(binpath, decpath, filepath))
        codec.decode(binpath, decpath, filepath)
        metrics = evaluate(filepath, decpath, binpath, cuda)
    content = {
        "source": Path(filepath).stem,
        "name": codec.name_config(),
        "description": codec.description,
        "results": metrics,
    }
    write_results(results, content)
    return i, results


def _show(codec: Codec, command: Sequence[Any]) -> None:
    print(f"--> Running: {codec.runner}{shlex.join(map(str, command))}", file=sys.stderr)


def collect(
    dataset: Path,
    codec_class: Codec,
    outputdir: Path,
    qps: Sequence[int],
    num_jobs: int = 1,
    **args: Any,
) -> dict[str, list[Any]]:
    """Code and measure all sequences of a folder at several qualities.

    Args:
        dataset: the folder.
        codec_class: the codec.
        outputdir: where coded files and results go.
        qps: the qualities.
        num_jobs: how many to work on at the same time.
        args: ``cuda``, ``force`` and ``dry_run`` as in :func:`func`.

    Returns:
        Lists with a value for each quality, first ``qp``; empty after a dry run.

    Raises:
        OSError: there is no such folder.
        ValueError: it holds no raw video.
    """
    files = find_sequences(dataset)
    if not files:
        raise ValueError(f"there is no raw video (*.yuv) in {dataset}")
    options = {key: args.get(key, False) for key in ("cuda", "force", "dry_run")}
    with ThreadPoolExecutor(num_jobs) as pool:
        jobs = [
            pool.submit(func, codec_class, i, path, qp, outputdir, Path(dataset), **options)
            for i, qp in enumerate(qps)
            for path in files
        ]
        done = [job.result() for job in jobs]
    if options["dry_run"]:
        return {}
    results: dict[str, list[Any]] = {"qp": list(qps)}
    for i in range(len(qps)):
        means = mean_results(path for number, path in done if number == i and path is not None)
        for key, value in means.items():
            results.setdefault(key, []).append(value)
    return results


def create_parser() -> argparse.ArgumentParser:
    """The command line."""
    common = argparse.ArgumentParser(add_help=False)
    add = common.add_argument
    add("dataset", type=Path, help="folder with raw video (*.yuv), searched to any depth")
    add("outputdir", type=Path, help="folder for coded files and results")
    add("-n", "--dry-run", action="store_true", help="show command lines, run nothing")
    add("-f", "--force", action="store_true", help="code and measure again what was done")
    add("-j", "--num-jobs", type=int, default=1, help="at the same time (default: 1)")
    add("-q", "--qps", default="1", help="list of qualities, such as 22,27,32 (default: 1)")
    add("--cuda", action="store_true", help="compare on the GPU")

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    codecs = parser.add_subparsers(dest="codec", required=True)
    for codec_class in codec_classes:
        codec = codec_class()
        codec.add_parser_args(codecs.add_parser(codec.name, parents=[common], help=codec.__doc__))
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Run the program.

    Args:
        args: command line without the program's name; ``None`` takes that of the process.

    Raises:
        SystemExit: status 2 for a wrong command line; a sentence if something fails.
    """
    parser = create_parser()
    options = parser.parse_args(args)
    try:
        qps = sorted(int(qp) for qp in options.qps.split(","))
    except ValueError:
        parser.error(f"-q must be numbers with commas between them, got {options.qps!r}")
    if options.num_jobs < 1:
        parser.error(f"-j must be at least 1, got {options.num_jobs}")
    if options.cuda and not torch.cuda.is_available():
        parser.error("--cuda: this PyTorch finds no CUDA device")
    codec = next(c for c in (make() for make in codec_classes) if c.name == options.codec)
    codec.set_args(options)
    try:
        results = collect(
            options.dataset,
            codec,
            options.outputdir,
            qps,
            options.num_jobs,
            cuda=options.cuda,
            force=options.force,
            dry_run=options.dry_run,
        )
        if options.dry_run:
            return
        name = _final_name(codec)
        output = {"name": name, "description": codec.description, "results": results}
        write_results(options.outputdir / f"{name}.json", output)
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        raise SystemExit(f"{parser.prog}: error: {error}") from error
    print(to_json(output))


def _final_name(codec: Codec) -> str:
    name = codec.name_config().replace("_", "-")
    if isinstance(codec, VTM):
        return name.replace(codec.name, f"{codec.name}-v{codec.version}", 1)
    return name


if __name__ == "__main__":
    main()
