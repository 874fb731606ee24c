"""Prometheus' own judge of rules and queries, from Debian's package prometheus."""

from __future__ import annotations

import os
import shutil

import pytest

REQUIRED = "TEST_PROMETHEUS"  # set: a missing program is a failure, not a reason to skip
PROMTOOL = shutil.which("promtool")
assert PROMTOOL or not os.environ.get(REQUIRED), "no promtool: apt-get install prometheus"
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="no promtool: apt-get install prometheus")
