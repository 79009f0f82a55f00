#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause-Clear
# A researcher trains by a recipe, measures against classical codecs, and draws beside published points.
. "$(dirname "$0")/lib.sh"
compressai train -d photos --recipe mbt2018-mean --model-args N=8 M=12 --epochs 2 --patch-size 64 64 \
  --batch-size 2 --test-batch-size 2 --num-workers 0 --seed 1 --val-fraction 0.3 --save-dir run >log
expect log "Recipe mbt2018-mean"
expect log "dB"
test -s run/curve.png
compressai eval photos --checkpoint run/checkpoint_best.safetensors --against jpeg webp \
  --json result.json --plot result.png --html result.html >table
expect table "BD-rate"
compressai plot result.json --published dcae hpcm-base -o published.svg >/dev/null
compressai published dcae hpcm-base -a mlicpp >table
expect table "VTM"
test -s result.png && test -s result.html && test -s published.svg
