# SPDX-License-Identifier: BSD-3-Clause-Clear
"""benchmarks/startup.py measures whole processes, and none that fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


PROGRAM = """
import sys
from pathlib import Path
from startup import measure

program = "import time; held = b'1' * 200_000_000; time.sleep(0.2)"
seconds, processor, megabytes = measure([sys.executable, "-c", program], Path.cwd())
assert seconds > 0.2, seconds
assert 0 < processor < seconds
assert 200 < megabytes < 300, megabytes
try:
    measure([sys.executable, "-c", "import sys; sys.exit('lost')"], Path.cwd())
except RuntimeError as error:
    print(error)
"""


def test_processes_are_measured_until_they_end():
    # In a process of its own: memory of the parent would count, and that of the tests is large.
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT / "benchmarks",
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip().endswith("failed: lost")
