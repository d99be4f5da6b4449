// Swapping two paths in one step, where the system can.
#include "penstock/runtime.h"

#include <cerrno>

#if defined(__linux__)
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__APPLE__)
#include <stdio.h>
#endif

int penstock_exchange_paths(const char* first, const char* second) {
#if defined(__linux__) && defined(SYS_renameat2)
  // Through syscall(): bionic and old glibc have the system call but not its wrapper.
  return syscall(SYS_renameat2, AT_FDCWD, first, AT_FDCWD, second, RENAME_EXCHANGE) == 0 ? 0 : errno;
#elif defined(__APPLE__)
  return renamex_np(first, second, RENAME_SWAP) == 0 ? 0 : errno;
#else
  (void)first;
  (void)second;
  return ENOSYS;
#endif
}
