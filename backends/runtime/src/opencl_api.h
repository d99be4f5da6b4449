// The part of OpenCL 1.2 that the runner uses, declared here and found when it is first needed, so that neither headers
// nor a driver are needed to build.
#ifndef PENSTOCK_OPENCL_API_H_
#define PENSTOCK_OPENCL_API_H_

#include <cstddef>
#include <cstdint>

namespace penstock::cl {

using Platform = struct PlatformObject*;
using DeviceId = struct DeviceObject*;
using Context = struct ContextObject*;
using Queue = struct QueueObject*;
using Buffer = struct BufferObject*;
using Program = struct ProgramObject*;
using KernelId = struct KernelObject*;
using EventId = struct EventObject*;
using Code = int32_t;

constexpr Code kSuccess = 0;
constexpr uint64_t kProfiling = 2;
constexpr uint64_t kReadWrite = 1, kReadOnly = 4, kCopyHostPointer = 32;
constexpr uint64_t kGpu = 4, kAllTypes = 0xFFFFFFFF;
constexpr uint32_t kDeviceType = 0x1000, kMaxWorkGroup = 0x1004, kMaxAllocation = 0x1010, kBaseAlignment = 0x1019, kLocalMemory = 0x1023;
constexpr uint32_t kDeviceName = 0x102B, kDeviceVendor = 0x102C, kDriverVersion = 0x102D, kDeviceVersion = 0x102F, kExtensions = 0x1030;
constexpr uint32_t kBinarySizes = 0x1165, kBinaries = 0x1166, kBuildLog = 0x1183, kRegion = 0x1220;
constexpr uint32_t kStart = 0x1282, kEnd = 0x1283;

struct Region {
  size_t origin, size;
};

// name, place in an ICD's dispatch table, result, parameters
#define PENSTOCK_OPENCL_FUNCTIONS(X)                                                                                          \
  X(GetPlatformIDs, 0, Code, (uint32_t, Platform*, uint32_t*))                                                                \
  X(GetDeviceIDs, 2, Code, (Platform, uint64_t, uint32_t, DeviceId*, uint32_t*))                                              \
  X(GetDeviceInfo, 3, Code, (DeviceId, uint32_t, size_t, void*, size_t*))                                                     \
  X(CreateContext, 4, Context, (const intptr_t*, uint32_t, const DeviceId*, void (*)(const char*, const void*, size_t, void*), void*, Code*)) \
  X(ReleaseContext, 7, Code, (Context))                                                                                       \
  X(CreateCommandQueue, 9, Queue, (Context, DeviceId, uint64_t, Code*))                                                       \
  X(ReleaseCommandQueue, 11, Code, (Queue))                                                                                   \
  X(CreateBuffer, 14, Buffer, (Context, uint64_t, size_t, void*, Code*))                                                      \
  X(ReleaseMemObject, 18, Code, (Buffer))                                                                                     \
  X(CreateProgramWithSource, 26, Program, (Context, uint32_t, const char**, const size_t*, Code*))                            \
  X(CreateProgramWithBinary, 27, Program, (Context, uint32_t, const DeviceId*, const size_t*, const unsigned char**, Code*, Code*)) \
  X(ReleaseProgram, 29, Code, (Program))                                                                                      \
  X(BuildProgram, 30, Code, (Program, uint32_t, const DeviceId*, const char*, void (*)(Program, void*), void*))               \
  X(GetProgramInfo, 32, Code, (Program, uint32_t, size_t, void*, size_t*))                                                    \
  X(GetProgramBuildInfo, 33, Code, (Program, DeviceId, uint32_t, size_t, void*, size_t*))                                     \
  X(CreateKernel, 34, KernelId, (Program, const char*, Code*))                                                                \
  X(ReleaseKernel, 37, Code, (KernelId))                                                                                      \
  X(SetKernelArg, 38, Code, (KernelId, uint32_t, size_t, const void*))                                                        \
  X(ReleaseEvent, 44, Code, (EventId))                                                                                        \
  X(GetEventProfilingInfo, 45, Code, (EventId, uint32_t, size_t, void*, size_t*))                                             \
  X(Finish, 47, Code, (Queue))                                                                                                \
  X(EnqueueReadBuffer, 48, Code, (Queue, Buffer, uint32_t, size_t, size_t, void*, uint32_t, const EventId*, EventId*))            \
  X(EnqueueWriteBuffer, 49, Code, (Queue, Buffer, uint32_t, size_t, size_t, const void*, uint32_t, const EventId*, EventId*))     \
  X(EnqueueCopyBuffer, 50, Code, (Queue, Buffer, Buffer, size_t, size_t, size_t, uint32_t, const EventId*, EventId*))             \
  X(EnqueueNDRangeKernel, 59, Code, (Queue, KernelId, uint32_t, const size_t*, const size_t*, const size_t*, uint32_t, const EventId*, EventId*)) \
  X(CreateSubBuffer, 82, Buffer, (Buffer, uint64_t, uint32_t, const void*, Code*))

struct Api {
#define PENSTOCK_MEMBER(name, place, result, parameters) result(*name) parameters = nullptr;
  PENSTOCK_OPENCL_FUNCTIONS(PENSTOCK_MEMBER)
#undef PENSTOCK_MEMBER
};

// The functions of this machine's OpenCL, or null where there is none. The environment variable PENSTOCK_OPENCL names a
// library to use instead of the system's: an ICD loader, or a driver itself.
const Api* api();

}  // namespace penstock::cl
#endif
