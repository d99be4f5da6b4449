"""The TVM back end: lower a Program to Relax, build kernels for a target, run on the CPU through TVM's VM."""

from __future__ import annotations

import os

# TVM raises and swallows exceptions while it picks schedules; symbolising each through a 200 MB library takes seconds.
os.environ.setdefault("TVM_FFI_BACKTRACE", "0")
