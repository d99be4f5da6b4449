"""Schedules for CPUs."""

from penstock.backends.tvm.schedules.cpu.convolution import Convolution
from penstock.backends.tvm.schedules.cpu.matmul import Matmul
from penstock.backends.tvm.schedules.cpu.parallel import Parallel

__all__ = ["Convolution", "Matmul", "Parallel"]
