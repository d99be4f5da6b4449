// OpenCL: one buffer per arena and per weight, a sub-buffer per place that a kernel sees, one queue that runs in order.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <tuple>

#include "device.h"
#include "error.h"
#include "opencl_api.h"
#include "sha256.h"

namespace penstock {
namespace {

constexpr cl::Code kOutOfDeviceMemory = -4, kOutOfResources = -5, kOutOfHostMemory = -6, kMisaligned = -13;

void check(cl::Code code, const std::string& what) {
  if (code == cl::kSuccess) return;
  if (code == kOutOfDeviceMemory || code == kOutOfResources || code == kOutOfHostMemory)
    fail(PENSTOCK_NO_MEMORY, what, ": the device has not enough memory (OpenCL error ", code, ")");
  if (code == kMisaligned) fail(PENSTOCK_NO_DEVICE, what, ": the device asks for a larger alignment than the plan keeps");
  fail(PENSTOCK_FAILED, what, ": OpenCL error ", code);
}

struct Candidate {
  cl::Platform platform;
  cl::DeviceId device;
  bool is_gpu;
};

template <class T>
T number(const cl::Api& api, cl::DeviceId device, uint32_t key) {
  T value{};
  api.GetDeviceInfo(device, key, sizeof value, &value, nullptr);
  return value;
}

std::string words(const cl::Api& api, cl::DeviceId device, uint32_t key) {
  size_t bytes = 0;
  if (api.GetDeviceInfo(device, key, 0, nullptr, &bytes) != cl::kSuccess || bytes == 0) return "";
  std::string value(bytes, '\0');
  api.GetDeviceInfo(device, key, bytes, value.data(), nullptr);
  return value.substr(0, value.find('\0'));
}

std::vector<Candidate> candidates() {
  std::vector<Candidate> found;
  const cl::Api* api = cl::api();
  uint32_t count = 0;
  if (api == nullptr || api->GetPlatformIDs(0, nullptr, &count) != cl::kSuccess) return found;
  std::vector<cl::Platform> platforms(count);
  if (count != 0) api->GetPlatformIDs(count, platforms.data(), nullptr);
  for (cl::Platform platform : platforms) {
    uint32_t devices = 0;
    if (api->GetDeviceIDs(platform, cl::kAllTypes, 0, nullptr, &devices) != cl::kSuccess || devices == 0) continue;
    std::vector<cl::DeviceId> ids(devices);
    api->GetDeviceIDs(platform, cl::kAllTypes, devices, ids.data(), nullptr);
    for (cl::DeviceId id : ids) found.push_back({platform, id, (number<uint64_t>(*api, id, cl::kDeviceType) & cl::kGpu) != 0});
  }
  std::stable_sort(found.begin(), found.end(), [](const Candidate& a, const Candidate& b) { return a.is_gpu > b.is_gpu; });
  return found;
}

Candidate choose(int32_t index) {
  if (cl::api() == nullptr)
    fail(PENSTOCK_NO_DEVICE, "there is no OpenCL library on this machine; install a driver (Debian: apt install pocl-opencl-icd), or set PENSTOCK_OPENCL to a library");
  const std::vector<Candidate> all = candidates();
  if (all.empty()) fail(PENSTOCK_NO_DEVICE, "OpenCL finds no device on this machine; install its driver (Debian: apt install pocl-opencl-icd)");
  if (index < 0 || static_cast<size_t>(index) >= all.size())
    fail(PENSTOCK_BAD_ARGUMENT, "there is no OpenCL device ", index, ", only ", all.size());
  return all[static_cast<size_t>(index)];
}

// A handle that is released when its owner goes.
template <class Handle, cl::Code (*cl::Api::*release)(Handle)>
class Owned {
 public:
  Owned() = default;
  explicit Owned(Handle handle) : handle_(handle) {}
  Owned(Owned&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Owned() {
    if (handle_ != nullptr) (cl::api()->*release)(handle_);
  }
  Handle get() const { return handle_; }
  Handle* receive() { return &handle_; }
  void leave() { handle_ = nullptr; }
  explicit operator bool() const { return handle_ != nullptr; }

 private:
  Handle handle_ = nullptr;
};
using OwnedContext = Owned<cl::Context, &cl::Api::ReleaseContext>;
using OwnedQueue = Owned<cl::Queue, &cl::Api::ReleaseCommandQueue>;
using OwnedBuffer = Owned<cl::Buffer, &cl::Api::ReleaseMemObject>;
using OwnedProgram = Owned<cl::Program, &cl::Api::ReleaseProgram>;
using OwnedKernel = Owned<cl::KernelId, &cl::Api::ReleaseKernel>;
using OwnedEvent = Owned<cl::EventId, &cl::Api::ReleaseEvent>;

class OpenCl;

class ClLaunch final : public Launch {
 public:
  ClLaunch(OpenCl* device, const Kernel& kernel, cl::KernelId id, const std::vector<Place>& args) : device_(device), kernel_(kernel), id_(id), args_(args) {}
  void run(const int64_t* moved) override;

 private:
  OpenCl* device_;
  const Kernel& kernel_;
  cl::KernelId id_;
  std::vector<Place> args_;
  std::vector<cl::Buffer> buffers_;  // of a launch that does not move
};

class OpenCl final : public Device {
 public:
  OpenCl(const Plan& plan, const std::string& folder, const penstock_options& options)
      : plan_(plan), folder_(folder), check_hashes_(options.skip_hashes == 0), cache_(options.cache == nullptr ? "" : options.cache), api_(*require()), chosen_(choose(options.device_index)) {
    cl::Code code = cl::kSuccess;
    context_ = OwnedContext(api_.CreateContext(nullptr, 1, &chosen_.device, nullptr, nullptr, &code));
    check(code, "creating a context");
    timed(false);
    check_limits();
    for (int64_t bytes : plan.arenas) arenas_.push_back(buffer(bytes, nullptr, cl::kReadWrite, "an arena"));
    kernels_.resize(plan.kernels.size());
  }

  // NVIDIA's driver crashes when the sub-buffers of an arena are released, so there they stay until the process ends.
  ~OpenCl() override {
    if (words(api_, chosen_.device, cl::kDeviceVendor).rfind("NVIDIA", 0) != 0) return;
    for (auto& part : parts_) part.second.leave();
  }

  std::string name() const override { return "opencl: " + words(api_, chosen_.device, cl::kDeviceName); }

  void add_weight(const char* data, int64_t bytes) override { weights_.push_back(buffer(bytes, data, cl::kReadOnly, "a weight")); }

  std::unique_ptr<Launch> bind(size_t kernel, const std::vector<Place>& args) override {
    if (!kernels_[kernel].second) kernels_[kernel] = build(plan_.kernels[kernel]);
    return std::make_unique<ClLaunch>(this, plan_.kernels[kernel], kernels_[kernel].second.get(), args);
  }

  void copy(const Place& from, const Place& to, int64_t bytes) override {
    if (bytes == 0 || (from.is_weight == to.is_weight && from.index == to.index && from.offset == to.offset)) return;
    check(api_.EnqueueCopyBuffer(queue_.get(), whole(from), whole(to), static_cast<size_t>(from.offset), static_cast<size_t>(to.offset), static_cast<size_t>(bytes), 0, nullptr, last()), "a copy");
  }

  void write(const Place& to, const void* data, int64_t bytes) override {
    if (bytes != 0) check(api_.EnqueueWriteBuffer(queue_.get(), whole(to), 1, static_cast<size_t>(to.offset), static_cast<size_t>(bytes), data, 0, nullptr, nullptr), "writing an input");
  }

  void read(const Place& from, void* data, int64_t bytes) override {
    if (bytes != 0) check(api_.EnqueueReadBuffer(queue_.get(), whole(from), 1, static_cast<size_t>(from.offset), static_cast<size_t>(bytes), data, 0, nullptr, nullptr), "reading an output");
  }

  void timed(bool on) override {
    if (queue_) finish();
    cl::Code code = cl::kSuccess;
    queue_ = OwnedQueue(api_.CreateCommandQueue(context_.get(), chosen_.device, on ? cl::kProfiling : 0, &code));
    check(code, "creating a queue");
    timed_ = on;
  }

  double last_seconds() override {
    uint64_t start = 0, end = 0;
    const OwnedEvent last = std::move(last_);
    if (!last || api_.GetEventProfilingInfo(last.get(), cl::kStart, sizeof start, &start, nullptr) != cl::kSuccess) return -1;
    if (api_.GetEventProfilingInfo(last.get(), cl::kEnd, sizeof end, &end, nullptr) != cl::kSuccess || end < start) return -1;
    return 1e-9 * static_cast<double>(end - start);
  }

  void finish() override { check(api_.Finish(queue_.get()), "waiting for the device"); }
  bool maps_weights() const override { return false; }

  // The bytes at a place as a buffer of their own.
  cl::Buffer at(const Place& place, int64_t bytes) {
    if (place.is_weight && place.offset == 0) return weights_[place.index].get();
    OwnedBuffer& part = parts_[{place.is_weight, place.index, place.offset, bytes}];
    if (!part) {
      const cl::Region region{static_cast<size_t>(place.offset), std::max<size_t>(1, static_cast<size_t>(bytes))};
      cl::Code code = cl::kSuccess;
      part = OwnedBuffer(api_.CreateSubBuffer(whole(place), place.is_weight ? cl::kReadOnly : cl::kReadWrite, cl::kRegion, &region, &code));
      check(code, text("a view at byte ", place.offset));
    }
    return part.get();
  }

  void launch(const Kernel& kernel, cl::KernelId id, const std::vector<cl::Buffer>& buffers) {
    for (size_t i = 0; i < buffers.size(); ++i)
      check(api_.SetKernelArg(id, static_cast<uint32_t>(i), sizeof(cl::Buffer), &buffers[i]), text("argument ", i, " of kernel '", kernel.name, "'"));
    size_t global[3], local[3];
    for (int axis = 0; axis < 3; ++axis) {
      local[axis] = static_cast<size_t>(kernel.block[axis]);
      global[axis] = local[axis] * static_cast<size_t>(kernel.grid[axis]);
    }
    check(api_.EnqueueNDRangeKernel(queue_.get(), id, 3, nullptr, global, local, 0, nullptr, last()), text("launching kernel '", kernel.name, "'"));
  }

 private:
  // Where the next command leaves its event, if it shall have one.
  cl::EventId* last() {
    if (!timed_) return nullptr;
    last_ = OwnedEvent();
    return last_.receive();
  }

  static const cl::Api* require() {
    choose(0);
    return cl::api();
  }

  void check_limits() const {
    const auto largest = number<uint64_t>(api_, chosen_.device, cl::kMaxAllocation);
    for (int64_t bytes : plan_.arenas)
      if (static_cast<uint64_t>(bytes) > largest)
        fail(PENSTOCK_NO_DEVICE, "an arena of ", bytes, " bytes, but ", name(), " allocates at most ", largest, " at once; compile for a target with this limit");
    const bool has_half = words(api_, chosen_.device, cl::kExtensions).find("cl_khr_fp16") != std::string::npos;
    const auto threads = number<size_t>(api_, chosen_.device, cl::kMaxWorkGroup);
    const auto local = number<uint64_t>(api_, chosen_.device, cl::kLocalMemory);
    for (const Kernel& kernel : plan_.kernels) {
      for (const Type& type : kernel.arguments)
        if (type.dtype == "float16" && !has_half)
          fail(PENSTOCK_NO_DEVICE, "kernel '", kernel.name, "' computes in float16, which ", name(), " cannot; run the artifact on its own device, or compile the model in float32");
      // Each extent is below 2^31, so two of them cannot overflow and the third is compared by division.
      const uint64_t two = static_cast<uint64_t>(kernel.block[0]) * static_cast<uint64_t>(kernel.block[1]);
      if (two > threads || static_cast<uint64_t>(kernel.block[2]) > threads / two || static_cast<uint64_t>(kernel.local_bytes) > local)
        fail(PENSTOCK_NO_DEVICE, "kernel '", kernel.name, "' needs more threads or local memory per work-group than ", name(), " has (", threads, " threads, ", local, " bytes); compile for a target with these limits");
    }
  }

  OwnedBuffer buffer(int64_t bytes, const char* data, uint64_t flags, const char* what) {
    cl::Code code = cl::kSuccess;
    const bool filled = data != nullptr && bytes != 0;
    OwnedBuffer made(api_.CreateBuffer(context_.get(), flags | (filled ? cl::kCopyHostPointer : 0), std::max<size_t>(1, static_cast<size_t>(bytes)), filled ? const_cast<char*>(data) : nullptr, &code));
    check(code, text(what, " of ", bytes, " bytes"));
    return made;
  }

  cl::Buffer whole(const Place& place) const { return (place.is_weight ? weights_ : arenas_)[place.index].get(); }

  std::pair<OwnedProgram, OwnedKernel> build(const Kernel& kernel) {
    const MappedFile file(folder_, kernel.file);
    if (check_hashes_) file.check(kernel.sha256);
    const std::string key = sha256(kernel.sha256 + words(api_, chosen_.device, cl::kDeviceName) + '\n' + words(api_, chosen_.device, cl::kDriverVersion) + '\n' +
                                   words(api_, chosen_.device, cl::kDeviceVersion));
    OwnedProgram program = from_cache(key);
    const bool is_new = !program;
    if (is_new) program = from_source(file, kernel);
    cl::Code code = cl::kSuccess;
    OwnedKernel made(api_.CreateKernel(program.get(), kernel.entry.c_str(), &code));
    if (code != cl::kSuccess) damaged(kernel.file, " has no kernel '", kernel.entry, "' (OpenCL error ", code, ")");
    if (is_new) to_cache(key, program.get());
    return {std::move(program), std::move(made)};
  }

  OwnedProgram from_source(const MappedFile& file, const Kernel& kernel) {
    const char* source = file.data();
    const size_t length = file.size();
    cl::Code code = cl::kSuccess;
    OwnedProgram program(api_.CreateProgramWithSource(context_.get(), 1, &source, &length, &code));
    check(code, "a program for kernel '" + kernel.name + "'");
    code = api_.BuildProgram(program.get(), 1, &chosen_.device, "", nullptr, nullptr);
    if (code != cl::kSuccess) {
      size_t bytes = 0;
      api_.GetProgramBuildInfo(program.get(), chosen_.device, cl::kBuildLog, 0, nullptr, &bytes);
      std::string log(bytes, '\0');
      if (bytes != 0) api_.GetProgramBuildInfo(program.get(), chosen_.device, cl::kBuildLog, bytes, log.data(), nullptr);
      fail(PENSTOCK_FAILED, name(), " does not compile ", kernel.file, " (OpenCL error ", code, "): ", log.substr(0, 500).c_str());
    }
    return program;
  }

  // A cache that cannot be read or written is no reason to fail: the program is compiled again.
  OwnedProgram from_cache(const std::string& key) {
    if (cache_.empty()) return OwnedProgram();
    std::ifstream file(cache_ + "/" + key + ".clbin", std::ios::binary);
    const std::string content((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    if (content.size() < 64 || content.compare(0, 64, sha256(content.data() + 64, content.size() - 64)) != 0) return OwnedProgram();
    const size_t size = content.size() - 64;
    const unsigned char* data = reinterpret_cast<const unsigned char*>(content.data()) + 64;
    cl::Code status = cl::kSuccess, code = cl::kSuccess;
    OwnedProgram program(api_.CreateProgramWithBinary(context_.get(), 1, &chosen_.device, &size, &data, &status, &code));
    if (code != cl::kSuccess || status != cl::kSuccess || api_.BuildProgram(program.get(), 1, &chosen_.device, "", nullptr, nullptr) != cl::kSuccess) return OwnedProgram();
    return program;
  }

  void to_cache(const std::string& key, cl::Program program) const {
    size_t size = 0;
    if (cache_.empty() || api_.GetProgramInfo(program, cl::kBinarySizes, sizeof size, &size, nullptr) != cl::kSuccess || size == 0) return;
    std::string content(size, '\0');
    unsigned char* data = reinterpret_cast<unsigned char*>(content.data());
    if (api_.GetProgramInfo(program, cl::kBinaries, sizeof data, &data, nullptr) != cl::kSuccess) return;
    const std::string path = cache_ + "/" + key + ".clbin", partial = text(path, ".", getpid());
    {
      std::ofstream file(partial, std::ios::binary);
      file << sha256(content) << content;
      if (!file.flush()) {
        std::remove(partial.c_str());
        return;
      }
    }
    if (std::rename(partial.c_str(), path.c_str()) != 0) std::remove(partial.c_str());
  }

  const Plan& plan_;
  std::string folder_;
  bool check_hashes_;
  std::string cache_;
  const cl::Api& api_;
  Candidate chosen_;
  OwnedContext context_;
  OwnedQueue queue_;
  OwnedEvent last_;
  bool timed_ = false;
  std::vector<OwnedBuffer> arenas_, weights_;
  std::map<std::tuple<bool, size_t, int64_t, int64_t>, OwnedBuffer> parts_;
  std::vector<std::pair<OwnedProgram, OwnedKernel>> kernels_;
};

void ClLaunch::run(const int64_t* moved) {
  if (moved != nullptr || buffers_.empty()) {
    buffers_.clear();
    for (size_t i = 0; i < args_.size(); ++i) {
      Place place = args_[i];
      if (moved != nullptr) place.offset += moved[i];
      buffers_.push_back(device_->at(place, kernel_.arguments[i].bytes));
    }
  }
  device_->launch(kernel_, id_, buffers_);
}

}  // namespace

std::unique_ptr<Device> make_opencl(const Plan& plan, const std::string& folder, const penstock_options& options) {
  return std::make_unique<OpenCl>(plan, folder, options);
}

std::string opencl_devices() {
  std::string result;
  for (const Candidate& candidate : candidates()) result += words(*cl::api(), candidate.device, cl::kDeviceName) + (candidate.is_gpu ? " (GPU)" : "") + "\n";
  return result;
}

}  // namespace penstock
