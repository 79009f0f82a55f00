#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause-Clear
# Someone serves images: a server that answers within limits, and files that open without torch.
. "$(dirname "$0")/lib.sh"
port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
python "$root/examples/serve.py" --port "$port" >server 2>&1 &
server=$!
trap 'kill $server; rm -rf "$work"' EXIT
for _ in $(seq 100); do
  curl -s -o /dev/null "127.0.0.1:$port/" && break
  sleep 0.3
done
curl -sf --data-binary @photos/0.png "127.0.0.1:$port/encode?quality=60" >0.cai
curl -sf --data-binary @0.cai "127.0.0.1:$port/decode" >0.png
test "$(curl -s -o /dev/null -w '%{http_code}' --data-binary @photos/0.png "127.0.0.1:$port/decode")" = 422
compressai decode --engine runtime 0.cai again.png >log
expect log "runtime"
python - <<'PYTHON'
from PIL import Image, ImageChops
one, other = Image.open("0.png").convert("RGB"), Image.open("again.png").convert("RGB")
assert max(high for _, high in ImageChops.difference(one, other).getextrema()) <= 1
PYTHON
