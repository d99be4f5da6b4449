"""Schedules for CPUs."""

from penstock.backends.tvm.schedules.cpu.convolution import Convolution
from penstock.backends.tvm.schedules.cpu.elementwise import Elementwise
from penstock.backends.tvm.schedules.cpu.lines import Lines
from penstock.backends.tvm.schedules.cpu.matmul import Matmul
from penstock.backends.tvm.schedules.cpu.parallel import Parallel

__all__ = ["Convolution", "Elementwise", "Lines", "Matmul", "Parallel"]
