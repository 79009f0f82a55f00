#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause-Clear
# People have other Pythons: a wheel is built for each that can be had, and tried in a fresh environment.
#
# The wheel without torch, since that with torch takes 5 GB for each Python; JOURNEY_WHEELS=library takes
# that one. Pythons that are not here are told.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
which=${JOURNEY_WHEELS:-runtime}
uv=$(command -v uv || echo "$root/.venv/bin/uv")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
tried=0
for version in 3.10 3.11 3.12 3.13; do
  python=""
  for candidate in "python$version" "$HOME/.pyenv/versions/$version."*/bin/python; do
    if "$candidate" -c '' 2>/dev/null; then python=$candidate; fi
  done
  if [ -z "$python" ]; then
    # Where there is a network, uv fetches one.
    python=$("$uv" python find --quiet "$version" 2>/dev/null ||
      { timeout 120 "$uv" python install --quiet "$version" && "$uv" python find --quiet "$version"; } 2>/dev/null ||
      true)
  fi
  if [ -z "$python" ]; then
    echo "wheels: no Python $version can be had here, not tried"
    continue
  fi
  # One wheel serves 3.12 and later.
  if ! ls "$work"/*-abi3-*.whl >/dev/null 2>&1; then
    "$root/.venv/bin/python" "$root/packages/build_wheels.py" --uv "$uv" --only "$which" \
      --python "$python" --output "$work" >log 2>&1 || { cat log; exit 1; }
  fi
  wheel=$(ls -t "$work"/*.whl | head -1)
  "$python" -m venv --without-pip "$work/environment-$version"
  VIRTUAL_ENV="$work/environment-$version" "$uv" --no-config pip install --quiet "$wheel"
  "$work/environment-$version/bin/python" "$root/packages/try_wheel.py"
  rm -r "$work/environment-$version"
  tried=$((tried + 1))
done
test "$tried" -gt 0
if [ "$tried" = 1 ]; then echo "wheels: skipped what needs a second Python, none can be had here"; fi
