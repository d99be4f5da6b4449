// What the runner asks of a device. A new one (Metal, say) implements this and is made in make_device.
#ifndef PENSTOCK_DEVICE_H_
#define PENSTOCK_DEVICE_H_

#include <memory>
#include <string>
#include <vector>

#include "penstock/runtime.h"
#include "plan.h"
#include "tensors.h"

namespace penstock {

// Where bytes lie on a device.
struct Place {
  bool is_weight = false;
  size_t index = 0;  // of the arena, or of the weight
  int64_t offset = 0;
};

// A kernel or a copy with its arguments bound, ready to run again and again.
class Launch {
 public:
  virtual ~Launch() = default;
  // `moved` has one offset in bytes per argument to add to its place, or is null.
  virtual void run(const int64_t* moved) = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string name() const = 0;
  // Takes over one weight: the data stay mapped until `weights_done`. Weights come in order of their index.
  virtual void add_weight(const char* data, int64_t bytes) = 0;
  virtual std::unique_ptr<Launch> bind(size_t kernel, const std::vector<Place>& args) = 0;
  virtual void copy(const Place& from, const Place& to, int64_t bytes) = 0;
  virtual void write(const Place& to, const void* data, int64_t bytes) = 0;
  virtual void read(const Place& from, void* data, int64_t bytes) = 0;
  // Wait until everything that was asked for is done.
  virtual void finish() = 0;
  // From now on commands are timed by the device itself, if it can.
  virtual void timed(bool) {}
  // Once finished: the seconds that the last command took on the device; negative if it does not tell.
  virtual double last_seconds() { return -1; }
  // Called around a run, by the thread that runs.
  virtual void begin() {}
  virtual void end() {}
  // Whether weights are read where they are mapped; else the mapping may go once all are added.
  virtual bool maps_weights() const = 0;
};

// Both allocate the arenas of the plan. They keep a reference to it.
std::unique_ptr<Device> make_cpu(const Plan& plan, const std::string& folder, const penstock_options& options);
std::unique_ptr<Device> make_opencl(const Plan& plan, const std::string& folder, const penstock_options& options);

// One line per OpenCL device.
std::string opencl_devices();

}  // namespace penstock
#endif
