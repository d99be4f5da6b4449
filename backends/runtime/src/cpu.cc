// The CPU: kernels are functions of the artifact's library, which TVM's code generator wrote.
//
// They follow TVM's packed calling convention: an array of tagged values, tensors as DLPack describes them. They take
// what they get: that it fits their parameters is checked when a plan is loaded. The library asks its host for threads
// through pointers that it exports.
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>

#include "device.h"
#include "error.h"
#include "thread_pool.h"
#include "workspace.h"

namespace penstock {
namespace {

constexpr size_t kAlignment = 64;  // what the kernels ask for
constexpr int32_t kMostThreads = 1024;

// DLPack's tensor (version 1).
struct DLTensor {
  void* data;
  int32_t device_type, device_id;
  int32_t rank;
  uint8_t code, bits;
  uint16_t lanes;
  const int64_t* shape;
  const int64_t* strides;
  uint64_t byte_offset;
};
static_assert(sizeof(DLTensor) == 48 || sizeof(void*) != 8, "the layout that kernels expect");

// A tagged value of TVM's calling convention.
struct Any {
  int32_t kind;
  uint32_t zero;
  union {
    int64_t integer;
    void* pointer;
  };
};
constexpr int32_t kTensorPointer = 7;
constexpr int32_t kCpu = 1;
using PackedFunction = int32_t (*)(void* self, const Any* args, int32_t count, Any* result);

// What a parallel loop is given.
struct ParallelGroup {
  void* barrier;
  int32_t tasks;
};
using ParallelTask = int (*)(int id, ParallelGroup* group, void* data);

thread_local ThreadPool* pool = nullptr;  // of the model that runs in this thread
thread_local std::string raised;

struct Parallel {
  ParallelTask task;
  void* data;
};

int run_task(int id, int count, void* context) {
  const Parallel& parallel = *static_cast<Parallel*>(context);
  ParallelGroup group{nullptr, count};
  return parallel.task(id, &group, parallel.data);
}

// A loop within a parallel loop, or one that asks for another number of tasks, runs them one after the other.
int parallel_launch(ParallelTask task, void* data, int tasks) {
  Parallel parallel{task, data};
  ThreadPool* threads = pool;
  if (threads == nullptr || (tasks != 0 && tasks != threads->size())) {
    const int count = tasks == 0 ? 1 : tasks;
    int failures = 0;
    for (int id = 0; id < count; ++id) failures += run_task(id, count, &parallel) != 0;
    return failures == 0 ? 0 : -1;
  }
  pool = nullptr;
  const int failures = threads->run(run_task, &parallel);
  pool = threads;
  return failures == 0 ? 0 : -1;
}

int parallel_barrier(int, ParallelGroup*) {
  raised = "a kernel waits for other threads, which no kernel of penstock does";
  return -1;
}

void* allocate_workspace(int, int, uint64_t bytes, int, int) { return take_workspace(static_cast<size_t>(bytes)); }

int free_workspace(int, int, void* memory) {
  give_back_workspace(memory);
  return 0;
}

void raise(const char* kind, const char* const* parts, int32_t count) {
  raised = kind == nullptr ? "" : kind;
  raised += ": ";
  for (int32_t i = 0; i < count; ++i)
    if (parts[i] != nullptr) raised += parts[i];
}

class Library {
 public:
  Library(const std::string& folder, const std::string& name, const std::string& sha256, bool check) : file_(folder, name) {
    if (check) file_.check(sha256);
#if defined(__linux__) && !defined(__ANDROID__)
    // By the open file: what was checked is what is loaded, and a library replaced under its old name is not taken for it.
    const std::string path = text("/proc/self/fd/", file_.descriptor());
#else
    const std::string path = folder + "/" + name;
#endif
    handle_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_ == nullptr) fail(PENSTOCK_NO_DEVICE, name, " does not load on this machine: ", reason());
    provide("__TVMBackendParallelLaunch", reinterpret_cast<void*>(&parallel_launch));
    provide("__TVMBackendParallelBarrier", reinterpret_cast<void*>(&parallel_barrier));
    provide("__TVMBackendAllocWorkspace", reinterpret_cast<void*>(&allocate_workspace));
    provide("__TVMBackendFreeWorkspace", reinterpret_cast<void*>(&free_workspace));
    provide("penstock_raise", reinterpret_cast<void*>(&raise));
  }
  ~Library() { dlclose(handle_); }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  PackedFunction function(const Kernel& kernel) const {
    void* found = dlsym(handle_, kernel.entry.c_str());
    if (found == nullptr) damaged(file_.name(), " has no function '", kernel.entry, "' for kernel '", kernel.name, "'");
    return reinterpret_cast<PackedFunction>(found);
  }

 private:
  void provide(const char* variable, void* function) {
    if (void* found = dlsym(handle_, variable)) *static_cast<void**>(found) = function;
  }

  static std::string reason() {
    const char* message = dlerror();
    return message == nullptr ? "no reason given" : message;
  }

  MappedFile file_;
  void* handle_ = nullptr;
};

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<char, Free>;

Memory allocate(int64_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 4096, bytes == 0 ? 1 : static_cast<size_t>(bytes)) != 0)
    fail(PENSTOCK_NO_MEMORY, "the host cannot allocate ", bytes, " bytes");
  return Memory(static_cast<char*>(memory));
}

// A kernel with the description of its arguments, which lacks where they lie. All its launches share it, one at a time.
class Function {
 public:
  Function(PackedFunction function, const Kernel& kernel) : function_(function), kernel_(kernel), args_(kernel.arguments.size()) {
    tensors_.reserve(args_.size());
    for (size_t i = 0; i < args_.size(); ++i) {
      const Type& type = kernel.arguments[i];
      tensors_.push_back({nullptr, kCpu, 0, static_cast<int32_t>(type.shape.size()), code(type.dtype),
                          static_cast<uint8_t>(8 * item_bytes(type.dtype)), 1, type.shape.data(), nullptr, 0});
      args_[i].kind = kTensorPointer;
      args_[i].zero = 0;
      args_[i].pointer = &tensors_[i];
    }
  }

  void run(const std::vector<char*>& data, const int64_t* moved) {
    for (size_t i = 0; i < data.size(); ++i) tensors_[i].data = data[i] + (moved == nullptr ? 0 : moved[i]);
    Any result{};
    raised.clear();
    if (function_(nullptr, args_.data(), static_cast<int32_t>(args_.size()), &result) != 0)
      fail(PENSTOCK_FAILED, "kernel '", kernel_.name, "' failed: ", raised.empty() ? "no reason given" : raised);
  }

 private:
  static uint8_t code(const std::string& dtype) {
    return dtype == "bool" ? 6 : dtype[0] == 'f' ? 2 : dtype[0] == 'u' ? 1 : 0;
  }

  PackedFunction function_;
  const Kernel& kernel_;
  std::vector<DLTensor> tensors_;
  std::vector<Any> args_;
};

class CpuLaunch final : public Launch {
 public:
  CpuLaunch(Function* function, std::vector<char*> data) : function_(function), data_(std::move(data)) {}
  void run(const int64_t* moved) override { function_->run(data_, moved); }

 private:
  Function* function_;
  std::vector<char*> data_;
};

class Cpu final : public Device {
 public:
  Cpu(const Plan& plan, const std::string& folder, const penstock_options& options)
      : plan_(plan),
        library_(folder, plan.library, plan.library_sha256, options.skip_hashes == 0),
        pool_(threads(options.threads)) {
    for (int64_t bytes : plan.arenas) arenas_.push_back(allocate(bytes));
    functions_.resize(plan.kernels.size());
  }

  std::string name() const override { return text("cpu (", pool_.size(), pool_.size() == 1 ? " thread)" : " threads)"); }

  void add_weight(const char* data, int64_t bytes) override {
    if (reinterpret_cast<uintptr_t>(data) % kAlignment != 0) {
      copies_.push_back(allocate(bytes));
      std::memcpy(copies_.back().get(), data, static_cast<size_t>(bytes));
      data = copies_.back().get();
    }
    weights_.push_back(const_cast<char*>(data));  // only ever read: a plan that writes a weight is refused
  }

  std::unique_ptr<Launch> bind(size_t kernel, const std::vector<Place>& args) override {
    const Kernel& of = plan_.kernels[kernel];
    if (functions_[kernel] == nullptr) functions_[kernel] = std::make_unique<Function>(library_.function(of), of);
    std::vector<char*> data;
    data.reserve(args.size());
    for (const Place& place : args) data.push_back(pointer(place));
    return std::make_unique<CpuLaunch>(functions_[kernel].get(), std::move(data));
  }

  void copy(const Place& from, const Place& to, int64_t bytes) override { std::memmove(pointer(to), pointer(from), static_cast<size_t>(bytes)); }
  void write(const Place& to, const void* data, int64_t bytes) override {
    if (bytes != 0) std::memcpy(pointer(to), data, static_cast<size_t>(bytes));  // nothing may come as a null pointer
  }
  void read(const Place& from, void* data, int64_t bytes) override { std::memcpy(data, pointer(from), static_cast<size_t>(bytes)); }
  void finish() override {}
  void begin() override { pool = &pool_; }
  void end() override { pool = nullptr; }
  bool maps_weights() const override { return true; }

 private:
  static int threads(int32_t wanted) {
    if (wanted > kMostThreads) fail(PENSTOCK_BAD_ARGUMENT, wanted, " threads; at most ", kMostThreads, " work together");
    return wanted > 0 ? wanted : ThreadPool::cores();
  }

  char* pointer(const Place& place) const {
    return (place.is_weight ? weights_[place.index] : arenas_[place.index].get()) + place.offset;
  }

  const Plan& plan_;
  Library library_;
  ThreadPool pool_;
  std::vector<Memory> arenas_, copies_;
  std::vector<char*> weights_;
  std::vector<std::unique_ptr<Function>> functions_;
};

}  // namespace

std::unique_ptr<Device> make_cpu(const Plan& plan, const std::string& folder, const penstock_options& options) {
  return std::make_unique<Cpu>(plan, folder, options);
}

}  // namespace penstock
