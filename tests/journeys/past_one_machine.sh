#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause-Clear
# Someone has more files than one machine can take: two nodes of Ray encode a folder, and decode it.
. "$(dirname "$0")/lib.sh"
echo "no image" >photos/deep/damaged.png
# Commands below run on the cluster, whose nodes are on this machine here.
cat >job.sh <<'JOB'
set -euo pipefail
status=0
compressai encode photos coded --engine ray --jobs 2 --retries 0 --json >encoded 2>errors || status=$?
test "$status" = 1
rm photos/deep/damaged.png
compressai encode photos coded --engine ray --jobs 2 >again
compressai decode coded decoded --engine ray --jobs 2 --json >decoded.json
JOB
python "$root/tests/two_nodes.py" bash job.sh || { cat errors again >&2; exit 1; }
expect errors "deep/damaged.png"
expect encoded '"done": 6'
expect again "skipped *6"
expect decoded.json '"done": 6'
# As one machine does it.
compressai decode coded here --engine torch >/dev/null
for name in 0 2 4 deep/1 deep/3 deep/5; do cmp "decoded/$name.png" "here/$name.png"; done
