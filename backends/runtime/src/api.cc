// The C API: the model behind functions that never throw.
#include <cstring>

#include "error.h"
#include "model.h"

struct penstock_model {
  penstock::Model model;
};

namespace {

using penstock::fail;
using penstock::guard;

template <class Pointer>
void need(Pointer pointer, const char* what) {
  if (pointer == nullptr) fail(PENSTOCK_BAD_ARGUMENT, what, " is a null pointer");
}

void describe(const penstock_model* model, const std::vector<size_t>& values, size_t index, penstock_tensor* tensor) {
  if (index >= values.size()) fail(PENSTOCK_BAD_ARGUMENT, "there is no tensor ", index, ", only ", values.size());
  const penstock::Value& value = model->model.plan().values[values[index]];
  *tensor = {value.name.c_str(), value.type.dtype.c_str(), static_cast<int32_t>(value.type.shape.size()), value.type.shape.data(),
             static_cast<size_t>(value.type.bytes)};
}

}  // namespace

const char* penstock_runtime_version(void) { return PENSTOCK_VERSION; }

const char* penstock_error(void) { return penstock::last_error(); }

int penstock_load(const char* artifact, const penstock_options* options, penstock_model** model) {
  return guard([&] {
    need(model, "model");
    *model = nullptr;
    need(artifact, "artifact");
    *model = new penstock_model{penstock::Model(artifact, options == nullptr ? penstock_options{} : *options)};
  });
}

void penstock_free(penstock_model* model) { delete model; }

const char* penstock_device(const penstock_model* model) { return model == nullptr ? "" : model->model.device_name().c_str(); }

size_t penstock_input_count(const penstock_model* model) { return model == nullptr ? 0 : model->model.plan().inputs.size(); }

size_t penstock_output_count(const penstock_model* model) { return model == nullptr ? 0 : model->model.plan().outputs.size(); }

int penstock_input(const penstock_model* model, size_t index, penstock_tensor* tensor) {
  return guard([&] {
    need(model, "model"), need(tensor, "tensor");
    describe(model, model->model.plan().inputs, index, tensor);
  });
}

int penstock_output(const penstock_model* model, size_t index, penstock_tensor* tensor) {
  return guard([&] {
    need(model, "model"), need(tensor, "tensor");
    describe(model, model->model.plan().outputs, index, tensor);
  });
}

int penstock_run(penstock_model* model, const void* const* inputs, void* const* outputs) {
  return guard([&] {
    need(model, "model");
    model->model.run(inputs, outputs);
  });
}

int penstock_memory_use(const penstock_model* model, penstock_memory* memory) {
  return guard([&] {
    need(model, "model"), need(memory, "memory");
    const penstock::Plan& plan = model->model.plan();
    *memory = {0, plan.arenas.size(), model->model.weight_bytes(), static_cast<size_t>(plan.lower_bound)};
    for (int64_t bytes : plan.arenas) memory->arena_bytes += static_cast<size_t>(bytes);
  });
}

int penstock_profile(penstock_model* model, int on) {
  return guard([&] {
    need(model, "model");
    model->model.profile(on != 0);
  });
}

size_t penstock_launch_count(const penstock_model* model) { return model == nullptr ? 0 : model->model.records().size(); }

int penstock_launch_profile(const penstock_model* model, size_t index, penstock_launch* launch) {
  return guard([&] {
    need(model, "model"), need(launch, "launch");
    const auto& records = model->model.records();
    if (index >= records.size()) fail(PENSTOCK_BAD_ARGUMENT, "there is no launch ", index, ", only ", records.size());
    const penstock::Record& record = records[index];
    *launch = {record.graph, record.kernel, model->model.node(record), record.runs, record.seconds};
  });
}

const char* penstock_opencl_devices(void) {
  thread_local std::string devices;
  guard([] { devices = penstock::opencl_devices(); });
  return devices.c_str();
}
