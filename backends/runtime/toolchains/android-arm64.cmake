# 64-bit Arm Android, with the NDK that ANDROID_NDK_HOME or ANDROID_NDK_ROOT names. The runner is C++ and needs Android's
# own headers and libc++, which only the NDK has.
foreach(name ANDROID_NDK_HOME ANDROID_NDK_ROOT ANDROID_NDK)
  if(NOT PENSTOCK_NDK AND DEFINED ENV{${name}})
    set(PENSTOCK_NDK $ENV{${name}})
  endif()
endforeach()
if(NOT EXISTS "${PENSTOCK_NDK}/build/cmake/android.toolchain.cmake")
  message(FATAL_ERROR "no Android NDK: unpack one and set ANDROID_NDK_HOME to its folder")
endif()
set(ANDROID_ABI arm64-v8a)
set(ANDROID_PLATFORM android-24)
set(ANDROID_STL c++_static)
include("${PENSTOCK_NDK}/build/cmake/android.toolchain.cmake")
