#include "model.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <algorithm>
#include <chrono>
#include <map>

#include "error.h"

namespace penstock {
namespace {

std::unique_ptr<Device> make_device(const Plan& plan, const std::string& folder, const penstock_options& options) {
  if (plan.kind == "llvm") return make_cpu(plan, folder, options);
  if (plan.kind == "opencl") return make_opencl(plan, folder, options);
  fail(PENSTOCK_NO_DEVICE, folder, " holds ", plan.kind, " kernels, which this runner cannot launch; compile the model for llvm or opencl to run it here");
}

Plan plan_of(const std::string& folder, bool check_hashes) { return read_plan(MappedFile(folder, "plan.json").text(), check_hashes); }

int64_t offset(const int64_t* strides, const std::vector<int64_t>& counters) {
  int64_t total = 0;
  for (const int64_t counter : counters) total += *strides++ * counter;
  return total;
}

class Copying final : public Launch {
 public:
  Copying(Device* device, const Place& from, const Place& to, int64_t bytes) : device_(device), from_(from), to_(to), bytes_(bytes) {}

  void run(const int64_t* moved) override {
    if (moved == nullptr) return device_->copy(from_, to_, bytes_);
    Place from = from_, to = to_;
    from.offset += moved[0], to.offset += moved[1];
    device_->copy(from, to, bytes_);
  }

 private:
  Device* device_;
  Place from_, to_;
  int64_t bytes_;
};

// Empties a list and gives up its memory, which to assign an empty one would not.
template <class Item>
void drop(std::vector<Item>& items) {
  std::vector<Item>().swap(items);
}

// What loading needed goes back to the system, where the host's allocator would keep it.
void release_free_memory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

// Tells a device when a run begins and ends, however it ends.
class Running {
 public:
  explicit Running(Device* device) : device_(device) { device_->begin(); }
  ~Running() { device_->end(); }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

 private:
  Device* device_;
};

}  // namespace

Model::Model(const std::string& folder, const penstock_options& options) : plan_(plan_of(folder, options.skip_hashes == 0)), device_(make_device(plan_, folder, options)) {
  device_name_ = device_->name();
  load_weights(folder, options.skip_hashes == 0);
  // Steps that call a graph with the same memory share a body.
  std::map<std::pair<size_t, std::vector<size_t>>, size_t> known;
  for (const Call& call : plan_.calls) {
    const auto [found, is_new] = known.try_emplace({call.graph, call.args}, bodies_.size());
    if (is_new) bodies_.push_back(bind(plan_.graphs[call.graph].ops, plan_.graphs[call.graph], call, 0));
    calls_.push_back(found->second);
  }
  for (Graph& graph : plan_.graphs) drop(graph.parameters), drop(graph.values), drop(graph.ops);
  drop(plan_.weights);
  names_.shrink_to_fit();
  records_.shrink_to_fit();
  release_free_memory();
}

void Model::load_weights(const std::string& folder, bool check) {
  weights_file_ = std::make_unique<MappedFile>(folder, plan_.weights_file);
  if (check) weights_file_->check(plan_.weights_sha256);
  const std::map<std::string, StoredTensor> tensors = read_tensors(*weights_file_);
  std::map<std::string, size_t> known;
  for (const Weight& weight : plan_.weights) {
    const auto tensor = tensors.find(weight.stored);
    if (tensor == tensors.end()) damaged(weights_file_->name(), " lacks the tensor '", weight.stored, "'");
    if (!(tensor->second.type == weight.type)) damaged(weights_file_->name(), ": '", weight.stored, "' is not what the plan says");
    const auto [found, is_new] = known.try_emplace(weight.stored, known.size());
    if (is_new) {
      device_->add_weight(tensor->second.data, weight.type.bytes);
      weight_bytes_ += static_cast<size_t>(weight.type.bytes);
    }
    stored_.push_back(found->second);
  }
  if (!device_->maps_weights()) weights_file_.reset();
}

Place Model::place(const Value& value, const Call* call) const {
  if (value.space == Space::arena) return {false, value.index, value.offset};
  if (value.space == Space::weight) return {true, stored_[value.index], value.offset};
  Place place = this->place(plan_.values[call->args[value.index]]);
  place.offset += value.offset;
  return place;
}

std::vector<Bound> Model::bind(const std::vector<Op>& ops, const Graph& graph, const Call& call, size_t loops) {
  std::vector<Bound> result(ops.size());
  for (size_t at = 0; at < ops.size(); ++at) {
    const Op& op = ops[at];
    Bound& bound = result[at];
    bound.kind = op.kind;
    if (op.kind == Op::Kind::loop) {
      bound.count = op.count;
      bound.body = bind(op.ops, graph, call, loops + 1);
      continue;
    }
    std::vector<Place> places;
    bool moves = false;
    for (const Argument& argument : op.args) {
      places.push_back(place(graph.values[argument.value], &call));
      moves = moves || !argument.strides.empty();
    }
    if (moves) bound.strides.reserve(op.args.size() * loops);
    for (size_t i = 0; moves && i < op.args.size(); ++i) {
      const std::vector<int64_t>& strides = op.args[i].strides;
      bound.strides.insert(bound.strides.end(), strides.begin(), strides.end());
      bound.strides.resize((i + 1) * loops);
    }
    if (op.kind == Op::Kind::launch)
      bound.launch = device_->bind(op.kernel, places);
    else
      bound.launch = std::make_unique<Copying>(device_.get(), places[0], places[1], graph.values[op.args[0].value].type.bytes);
    bound.record = record(op, graph);
  }
  return result;
}

// A new record for a launch or a copy.
size_t Model::record(const Op& op, const Graph& graph) {
  const Kernel* kernel = op.kind == Op::Kind::launch ? &plan_.kernels[op.kernel] : nullptr;
  const std::string* node = nullptr;  // the last that it writes
  for (size_t i = 0; i < op.args.size(); ++i)
    if (kernel == nullptr || kernel->writes[i]) node = &graph.values[op.args[i].value].name;
  records_.push_back({graph.name.c_str(), kernel == nullptr ? "copy" : kernel->name.c_str(), names_.size()});
  if (node != nullptr) names_ += *node;
  names_ += '\0';
  return records_.size() - 1;
}

void Model::run(const void* const* inputs, void* const* outputs) {
  for (size_t i = 0; i < plan_.inputs.size(); ++i) {
    const Value& value = plan_.values[plan_.inputs[i]];
    if (inputs == nullptr || (inputs[i] == nullptr && value.type.bytes != 0)) fail(PENSTOCK_BAD_ARGUMENT, "input '", value.name, "' is a null pointer");
    device_->write(place(value), inputs[i], value.type.bytes);
  }
  {
    Running running(device_.get());
    std::vector<int64_t> counters;
    for (size_t call : calls_) walk(bodies_[call], counters);
    device_->finish();
  }
  for (size_t i = 0; i < plan_.outputs.size(); ++i) {
    const Value& value = plan_.values[plan_.outputs[i]];
    if (outputs != nullptr && outputs[i] != nullptr) device_->read(place(value), outputs[i], value.type.bytes);
  }
}

void Model::walk(std::vector<Bound>& ops, std::vector<int64_t>& counters) {
  for (Bound& op : ops) {
    if (op.kind == Op::Kind::loop) {
      for (int64_t i = 0; i < op.count; ++i) {
        counters.push_back(i);
        walk(op.body, counters);
        counters.pop_back();
      }
    } else if (!profiling_) {
      execute(op, counters);
    } else {
      const auto start = std::chrono::steady_clock::now();
      execute(op, counters);
      device_->finish();
      Record& record = records_[op.record];
      ++record.runs;
      const double here = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      const double there = device_->last_seconds();
      record.seconds += there < 0 ? here : there;
    }
  }
}

void Model::execute(Bound& op, const std::vector<int64_t>& counters) {
  if (op.strides.empty()) return op.launch->run(nullptr);
  moved_.clear();
  for (size_t at = 0; at < op.strides.size(); at += counters.size()) moved_.push_back(offset(&op.strides[at], counters));
  op.launch->run(moved_.data());
}

void Model::profile(bool on) {
  profiling_ = on;
  device_->timed(on);
  if (!on) return;
  for (Record& record : records_) record.runs = 0, record.seconds = 0;
}

}  // namespace penstock
