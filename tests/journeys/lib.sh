# SPDX-License-Identifier: BSD-3-Clause-Clear
# For the journeys: a folder of its own with weights of its own, six photos, and the program on the path.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export PATH="$root/.venv/bin:$PATH"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export COMPRESSAI_HOME="$work/home" OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}"
mkdir photos photos/deep
python - "$root/examples/assets/chelsea.png" <<'PYTHON'
import sys
from PIL import Image
photo = Image.open(sys.argv[1]).convert("RGB")
for i in range(6):
    part = photo.crop((40 * i, 20 * i, 40 * i + 200, 20 * i + 180))
    part.save(f"photos/{'deep/' if i % 2 else ''}{i}.{'jpg' if i == 4 else 'png'}")
PYTHON
expect() { # expect FILE TEXT: the file has the text
  grep -q -- "$2" "$1" || { echo "expected '$2' in $1:"; cat "$1"; exit 1; } >&2
}
