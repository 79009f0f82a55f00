#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause-Clear
# Someone has a file of an author's program: converts it, installs it, codes with it, and passes it on.
. "$(dirname "$0")/lib.sh"
PYTHONPATH="$root/tests" python - <<'PYTHON'
import torch
from authors_layouts import original
_, weights = original("dcae")
torch.save({"epoch": 3, "state_dict": weights}, "0.0067checkpoint_best.pth.tar")
PYTHON
compressai convert 0.0067checkpoint_best.pth.tar dcae.safetensors >log
expect log "dcae"
compressai weights add dcae.safetensors --model my-dcae -q 3 >log
expect log "my-dcae"
compressai encode photos/0.png coded.cai --model my-dcae -q 3 >/dev/null
compressai decode coded.cai decoded.png >/dev/null
compressai weights publish my-dcae public --images photos/0.png --licence CC-BY-4.0 >/dev/null
test -s public/README.md
COMPRESSAI_HOME="$work/elsewhere" compressai weights add "file://$work/public" >/dev/null
COMPRESSAI_HOME="$work/elsewhere" compressai decode coded.cai again.png >/dev/null
cmp decoded.png again.png
