// Launching a kernel: its groups over the threads of the runner, twice, in two orders whose results must be the same.
#include <atomic>
#include <mutex>

#include "worker.h"

using ParallelTask = int (*)(int id, void* group, void* data);

extern "C" {
// Set by the runner when it loads the library.
__attribute__((visibility("default"))) void (*penstock_raise)(const char*, const char* const*, int32_t) = nullptr;
__attribute__((visibility("default"))) int (*__TVMBackendParallelLaunch)(ParallelTask, void*, int) = nullptr;
// Read and set by whoever watches a long run.
__attribute__((visibility("default"))) std::atomic<int64_t> penstock_threads_done{0};
__attribute__((visibility("default"))) std::atomic<int32_t> penstock_stop{0};
}

namespace penstock {
namespace {

// Workers that wait for work. They belong to the library, not to threads, so that it can be unloaded at any time.
class Workers {
 public:
  std::unique_ptr<Worker> take() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (idle_.empty()) return std::make_unique<Worker>();
    std::unique_ptr<Worker> worker = std::move(idle_.back());
    idle_.pop_back();
    return worker;
  }
  void give(std::unique_ptr<Worker> worker) {
    const std::lock_guard<std::mutex> lock(mutex_);
    idle_.push_back(std::move(worker));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Worker>> idle_;
} workers;

// DLPack's tensor, which the runner passes.
struct Tensor {
  char* data;
  int32_t device_type, device_id, rank;
  uint8_t code, bits;
  uint16_t lanes;
  const int64_t* shape;
  const int64_t* strides;
  uint64_t byte_offset;
};

std::vector<Buffer> buffers_of(const Kernel& kernel, const Argument* arguments, int count) {
  if (count != kernel.buffers) fault("takes ", kernel.buffers, " buffers, the launch plan gives ", count);
  std::vector<Buffer> buffers;
  for (int i = 0; i < count; ++i) {
    const Tensor& tensor = *static_cast<const Tensor*>(arguments[i].value);
    const size_t item = tensor.bits / 8;
    size_t bytes = item;
    for (int axis = 0; axis < tensor.rank; ++axis) bytes *= static_cast<size_t>(tensor.shape[axis]);
    buffers.push_back({tensor.data + tensor.byte_offset, bytes, item});
  }
  return buffers;
}

struct Run {
  const Kernel& kernel;
  const std::vector<Buffer>& buffers;
  bool reversed;
  std::mutex mutex;
  std::string failure;

  void all() {
    if (__TVMBackendParallelLaunch != nullptr) {
      __TVMBackendParallelLaunch(&Run::part, this, 0);
    } else {
      groups(0, 1);
    }
    if (!failure.empty()) throw Fault{failure};
  }

 private:
  static int part(int id, void* group, void* data) {
    struct Group { void* barrier; int32_t tasks; };
    static_cast<Run*>(data)->groups(static_cast<uint>(id), static_cast<uint>(static_cast<Group*>(group)->tasks));
    return 0;
  }

  void groups(uint first, uint step) {
    const uint total = kernel.grid[0] * kernel.grid[1] * kernel.grid[2];
    const int64_t threads = int64_t{kernel.block[0]} * kernel.block[1] * kernel.block[2];
    std::unique_ptr<Worker> worker = workers.take();
    try {
      for (uint i = first; i < total && penstock_stop == 0; i += step) {
        worker->run(kernel, buffers.data(), reversed ? total - 1 - i : i, reversed);
        penstock_threads_done += threads;
      }
    } catch (const Fault& fault) {
      const std::lock_guard<std::mutex> lock(mutex);
      if (failure.empty()) failure = fault.text;
    }
    workers.give(std::move(worker));
    if (penstock_stop != 0) {
      const std::lock_guard<std::mutex> lock(mutex);
      failure = "was stopped";
    }
  }
};

using Contents = std::vector<std::vector<char>>;

Contents written(const Kernel& kernel, const std::vector<Buffer>& buffers) {
  Contents contents;
  for (int i = 0; i < kernel.buffers; ++i)
    contents.emplace_back(buffers[i].data, buffers[i].data + (kernel.writes[i] ? buffers[i].bytes : 0));
  return contents;
}

void run_twice(const Kernel& kernel, const std::vector<Buffer>& buffers) {
  const Contents before = written(kernel, buffers);
  Run{kernel, buffers, false, {}, {}}.all();
  const Contents once = written(kernel, buffers);
  for (int i = 0; i < kernel.buffers; ++i) std::copy(before[i].begin(), before[i].end(), buffers[i].data);
  Run{kernel, buffers, true, {}, {}}.all();
  for (int i = 0; i < kernel.buffers; ++i) {
    const auto differs = std::mismatch(once[i].begin(), once[i].end(), buffers[i].data);
    if (differs.first != once[i].end())
      fault("writes another value to ", kernel.names[i], "[", static_cast<size_t>(differs.first - once[i].begin()) / buffers[i].item,
            "] when its threads run in the reverse order: a race");
  }
}

}  // namespace

int launch(const Kernel& kernel, const Argument* arguments, int count) {
  std::string text;
  try {
    run_twice(kernel, buffers_of(kernel, arguments, count));
    return 0;
  } catch (const Fault& fault) {
    text = fault.text;
  } catch (const std::bad_alloc&) {
    text = "there is not enough memory to simulate it";
  }
  const char* part = text.c_str();
  if (penstock_raise != nullptr) penstock_raise("SimulatorError", &part, 1);
  return -1;
}

void barrier(const Thread& thread, Scope scope, int line) {
  const auto what = scope == Scope::group ? Wait::For::group : Wait::For::subgroup;
  thread.worker->wait(thread, {what, line, scope != Scope::lanes, nullptr, nullptr, 0, 0, false, {}});
}

void exchange(const Thread& thread, void* value, size_t bytes, int from, bool keep_outside, const char* what, int line) {
  thread.worker->wait(thread, {Wait::For::exchange, line, false, what, value, bytes, from, keep_outside, {}});
}

char* read_local(const Thread& thread, const LocalArray& array, ptrdiff_t offset, size_t bytes) {
  return thread.worker->shared.read(thread, array, offset, bytes);
}

char* write_local(const Thread& thread, const LocalArray& array, ptrdiff_t offset, size_t bytes) {
  return thread.worker->shared.write(thread, array, offset, bytes);
}

void out_of_bounds(const char* what, ptrdiff_t offset, size_t bytes, size_t size) {
  fault("touches bytes ", offset, " to ", offset + static_cast<ptrdiff_t>(size), " of ", what, ", which has ", bytes);
}

void misaligned(const char* what, ptrdiff_t offset, size_t alignment) {
  fault("takes a vector at byte ", offset, " of ", what, ", which is no multiple of ", alignment);
}

}  // namespace penstock
