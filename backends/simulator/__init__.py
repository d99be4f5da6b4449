"""Executing GPU kernels on this machine's CPU, to see that they compute the right numbers, and how.

Nobody has every phone at hand, and no runtime here takes Metal, or OpenCL in half precision. So the kernels of an
artifact are translated to C++ (`translate`), compiled (`compiler`), and put in the place of CPU kernels in the
artifact's own launch plan (`host_plan`), which the native runner then walks as on any CPU: the arena, views, loops and
copies are those of the phone. Headers in ``device/`` give the kernels their types, functions, threads and memory:

==============  ======================================================================================================
half.h          16-bit floats, rounded after every operation
vector.h        float4, half8, …
math.h          exp, max, fma, …
memory.h        pointers that know their bounds, in the three address spaces
shared.h        memory of a work-group, with a record of who touched what since which barrier
fibers.h        threads that can wait
worker.h        work-groups: barriers, exchange between the lanes of a SIMD-group
launch.cc       kernels: all groups, in two orders
metal.h         what Metal adds: SIMD-groups and their 8 × 8 matrices
opencl.h        what OpenCL C adds: vload, convert, …
==============  ======================================================================================================

`Simulation` is the door. What it reports, and what it cannot see, is in docs/simulator.md.
"""

from penstock.backends.simulator.compiler import Progress
from penstock.backends.simulator.simulation import Executed, Simulation

__all__ = ["Executed", "Progress", "Simulation"]
