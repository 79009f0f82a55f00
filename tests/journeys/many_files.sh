#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause-Clear
# An engineer has 506 files in nested folders, one of them damaged, and wants all of them smaller.
. "$(dirname "$0")/lib.sh"
python - <<'PYTHON'
from PIL import Image
photo = Image.open("photos/0.png").resize((40, 36))
for i in range(505):
    photo.rotate(i).save(f"photos/deep/n{i:03}.png")
PYTHON
rm photos/[0-9].* photos/deep/[0-9].*
cp photos/deep/n000.png photos/first.png
head -c 300 photos/deep/n001.png >photos/deep/n001.cut && mv photos/deep/n001.cut photos/deep/n001.png
status=0
compressai encode photos coded >log 2>errors || status=$?
test "$status" = 1
cat errors >>log
expect log "n001.png"
test "$(find coded -name '*.cai' | wc -l)" = 505
compressai decode coded decoded >log
test "$(find decoded -name '*.png' | wc -l)" = 505
compressai view coded -o sheet.html >/dev/null
expect sheet.html "n002"
