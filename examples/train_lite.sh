#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause-Clear
# From Debian's photographs to weights like those that ship with the library; see docs/lite.md.
# Run it again after an interruption: it goes on where it was.
set -euo pipefail
work=${1:?usage: examples/train_lite.sh FOLDER}
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
schedule=(--seed 1 --threads 1 --learning-rate 1e-3 --warm-up 500 --steps 27500 --cool-down 7500)

[ -e "$work/photos/index.json" ] || "$python" examples/prepare_photos.py "$work"
train() { "$python" examples/train_lite.py --data "$work/photos" --run "$work/trunk" "${schedule[@]}" "$@"; }
train --crop 128 --batch-size 8 --until 20000
# Larger crops last: in 128 pixels the hyperlatent has only 2 x 2 positions.
train --crop 192 --batch-size 4
"$python" examples/train_lite.py --run "$work/trunk" --export "$work/lite"
