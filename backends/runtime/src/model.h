// A loaded artifact: its plan bound to a device, and the walk over it.
#ifndef PENSTOCK_MODEL_H_
#define PENSTOCK_MODEL_H_

#include <memory>
#include <string>
#include <vector>

#include "device.h"
#include "plan.h"

namespace penstock {

// One op of one call, with everything resolved that does not change from run to run.
struct Bound {
  Op::Kind kind = Op::Kind::launch;
  size_t record = 0;              // launch, copy: its place among the profile's records
  std::unique_ptr<Launch> launch;
  std::vector<int64_t> strides;   // per argument, one per loop around it; empty where none moves
  int64_t count = 0;              // loop
  std::vector<Bound> body;
};

struct Record {
  const char *graph, *kernel;
  size_t node;  // its place among the names
  uint64_t runs = 0;
  double seconds = 0;
};

class Model {
 public:
  Model(const std::string& folder, const penstock_options& options);

  const Plan& plan() const { return plan_; }
  const std::string& device_name() const { return device_name_; }
  size_t weight_bytes() const { return weight_bytes_; }
  const std::vector<Record>& records() const { return records_; }
  const char* node(const Record& record) const { return &names_[record.node]; }

  void run(const void* const* inputs, void* const* outputs);
  void profile(bool on);

 private:
  void load_weights(const std::string& folder, bool check);
  Place place(const Value& value, const Call* call = nullptr) const;
  std::vector<Bound> bind(const std::vector<Op>& ops, const Graph& graph, const Call& call, size_t loops);
  size_t record(const Op& op, const Graph& graph);
  void walk(std::vector<Bound>& ops, std::vector<int64_t>& counters);
  void execute(Bound& op, const std::vector<int64_t>& counters);

  Plan plan_;  // once bound, without weights, and without what graphs are made of
  std::unique_ptr<MappedFile> weights_file_;
  std::unique_ptr<Device> device_;
  std::string device_name_;
  std::vector<size_t> stored_;  // for each weight of the plan, the weight of the device
  size_t weight_bytes_ = 0;
  std::vector<std::vector<Bound>> bodies_;
  std::vector<size_t> calls_;  // bodies in the order in which they run
  std::vector<Record> records_;
  std::string names_;  // of nodes, each with a zero behind it
  std::vector<int64_t> moved_;
  bool profiling_ = false;
};

}  // namespace penstock
#endif
