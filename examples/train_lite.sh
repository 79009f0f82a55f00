#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause-Clear
# The training of lite, whose state is kept in the repository while it lasts; see docs/lite.md.
#
#   examples/train_lite.sh continue FOLDER [arguments of train_lite.py]
#       go on in the background from the newer state of FOLDER/run and training_state/
#   examples/train_lite.sh stop FOLDER
#       end it, with its state written, and copy state and log to training_state/
#   examples/train_lite.sh keep FOLDER
#       only copy what was written last
#   examples/train_lite.sh export FOLDER FILE
#       write the model of the averaged weights
#   examples/train_lite.sh ship FOLDER
#       have the library ship it, its form in integers, and recipes of both
set -euo pipefail
usage() { sed -n 's/^#   //p' "$0" >&2; exit 2; }
[ $# -ge 2 ] || usage
task=$1 work=$2
shift 2
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
run=$work/run kept=training_state
state=$run/state.safetensors

# The step that a state has reached; its header is JSON behind eight bytes.
step() {
    "$python" - "$1" <<'END'
import sys

import safetensors

try:
    with safetensors.safe_open(sys.argv[1], framework="numpy") as file:
        print(file.metadata()["step"])
except FileNotFoundError:
    print(-1)
END
}

running() { [ -e "$run/pid" ] && kill -0 "$(cat "$run/pid")" 2>/dev/null; }

keep() {
    mkdir -p "$kept"
    # Under another name first: the training may write while this copies.
    cp "$state" "$kept/unfinished" && mv "$kept/unfinished" "$kept/lite.safetensors"
    cp "$run/log.jsonl" "$kept/lite.jsonl"
    echo "step $(step "$kept/lite.safetensors") is in $kept/: commit it"
}

case $task in
continue)
    ! running || { echo "it runs already, as process $(cat "$run/pid")" >&2; exit 1; }
    mkdir -p "$run"
    [ -e "$work/photos.zip" ] || "$python" examples/prepare_photos.py "$work"
    if [ "$(step "$kept/lite.safetensors")" -gt "$(step "$state")" ]; then
        cp "$kept/lite.safetensors" "$state"
        cp "$kept/lite.jsonl" "$run/log.jsonl"
    fi
    setsid nohup nice -n 10 "$python" examples/train_lite.py --data "$work/photos.zip" \
        --run "$run" "$@" >>"$run/output.txt" 2>&1 </dev/null &
    echo $! >"$run/pid"
    echo "process $!, log $run/log.jsonl"
    ;;
stop)
    if running; then
        kill -TERM "$(cat "$run/pid")"
        while running; do sleep 1; done
    fi
    rm -f "$run/pid"
    keep
    ;;
keep) keep ;;
export) "$python" examples/train_lite.py --run "$run" --export "${1:?FILE is missing}" ;;
ship)
    shipped=compressai/zoo/shipped
    "$python" examples/train_lite.py --run "$run" --export "$work/shipped.safetensors"
    digest=$(sha256sum "$work/shipped.safetensors" | cut -c 1-8)
    rm -f "$shipped"/lite-*.safetensors
    cp "$work/shipped.safetensors" "$shipped/lite-mse-all-$digest.safetensors"
    sums() { (cd "$shipped" && sha256sum lite-*.safetensors >SHA256SUMS); }
    sums
    "$python" examples/quantize_lite.py --data "$work/photos.zip" --export "$shipped"
    sums
    "$python" examples/export_recipes.py
    ;;
*) usage ;;
esac
