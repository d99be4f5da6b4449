// Runs an artifact on its example inputs and compares the outputs with what PyTorch eager gave for them.
//
//     penstock-run OUT.penstock [--threads N] [--device N] [--cache FOLDER] [--repeat N] [--profile]
//
// Prints the device, the memory, the time and each output's error. Exits with 0 if every output is within 1e-4 of the
// largest expected value.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "error.h"
#include "penstock/runtime.h"
#include "tensors.h"

namespace {

constexpr double kTolerance = 1e-4;

struct Options {
  std::string artifact;
  penstock_options runner{};
  int repeat = 1;
  bool profile = false;
};

[[noreturn]] void usage(const std::string& problem) {
  std::fprintf(stderr, "penstock-run: %s\nusage: penstock-run OUT.penstock [--threads N] [--device N] [--cache FOLDER] [--repeat N] [--profile]\n",
               problem.c_str());
  std::exit(2);
}

int number(const char* option, const char* text) {
  char* end = nullptr;
  const long value = text == nullptr ? -1 : std::strtol(text, &end, 10);
  if (text == nullptr || *text == '\0' || *end != '\0' || value < 0 || value > 1'000'000) usage(std::string(option) + " needs a number");
  return static_cast<int>(value);
}

Options parse(int count, char** arguments) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string name = arguments[i];
    const char* value = i + 1 < count ? arguments[i + 1] : nullptr;
    if (name == "--profile") {
      options.profile = true;
      continue;
    }
    if (name.rfind("--", 0) != 0) {
      if (!options.artifact.empty()) usage("two artifacts");
      options.artifact = name;
      continue;
    }
    ++i;
    if (name == "--threads") {
      options.runner.threads = number("--threads", value);
    } else if (name == "--device") {
      options.runner.device_index = number("--device", value);
    } else if (name == "--repeat") {
      options.repeat = number("--repeat", value);
    } else if (name == "--cache" && value != nullptr) {
      options.runner.cache = value;
    } else {
      usage("unknown option " + name);
    }
  }
  if (options.artifact.empty()) usage("no artifact");
  return options;
}

float from_half(uint16_t bits) {
  const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
  const float magnitude = exponent == 31  ? (fraction != 0 ? NAN : INFINITY)
                          : exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                          : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

template <class T>
double element_of(const char* data, size_t index) {
  T value;
  std::memcpy(&value, data + index * sizeof value, sizeof value);
  return static_cast<double>(value);
}

double element(const std::string& dtype, const char* data, size_t index) {
  if (dtype == "float32") return element_of<float>(data, index);
  if (dtype == "float64") return element_of<double>(data, index);
  if (dtype == "float16") {
    uint16_t bits;
    std::memcpy(&bits, data + index * sizeof bits, sizeof bits);
    return from_half(bits);
  }
  if (dtype == "int64") return element_of<int64_t>(data, index);
  if (dtype == "int32") return element_of<int32_t>(data, index);
  if (dtype == "int16") return element_of<int16_t>(data, index);
  if (dtype == "int8") return element_of<int8_t>(data, index);
  return element_of<uint8_t>(data, index);
}

bool compare(const penstock_tensor& tensor, const char* expected, const char* found) {
  const std::string dtype = tensor.dtype;
  const size_t count = tensor.bytes / static_cast<size_t>(penstock::item_bytes(dtype));
  double error = 0, scale = 0;
  for (size_t i = 0; i < count; ++i) {
    const double wanted = element(dtype, expected, i), actual = element(dtype, found, i);
    if (!(wanted == actual || (std::isnan(wanted) && std::isnan(actual)))) error = std::isnan(actual - wanted) ? INFINITY : std::fmax(error, std::fabs(actual - wanted));
    scale = std::fmax(scale, std::isfinite(wanted) ? std::fabs(wanted) : 0);
  }
  const bool ok = error <= kTolerance * std::fmax(scale, 1);
  std::printf("%s: max error %.3e of %.4g%s\n", tensor.name, error, scale, ok ? "" : ", too far");
  return ok;
}

const penstock::StoredTensor& stored(const std::map<std::string, penstock::StoredTensor>& tensors, const std::string& name, const penstock_tensor& tensor) {
  const auto found = tensors.find(name);
  if (found == tensors.end() || static_cast<size_t>(found->second.type.bytes) != tensor.bytes)
    penstock::damaged("check.safetensors lacks '", name, "' in the right size");
  return found->second;
}

void require(int code, const char* what) {
  if (code != PENSTOCK_OK) penstock::fail(code, what, ": ", penstock_error());
}

int run(const Options& options) {
  penstock_model* model = nullptr;
  require(penstock_load(options.artifact.c_str(), &options.runner, &model), options.artifact.c_str());
  const penstock::MappedFile file(options.artifact, "check.safetensors");
  const auto tensors = penstock::read_tensors(file);
  std::vector<const void*> inputs(penstock_input_count(model));
  std::vector<std::vector<char>> results(penstock_output_count(model));
  std::vector<void*> outputs;
  penstock_tensor tensor;
  for (size_t i = 0; i < inputs.size(); ++i) {
    require(penstock_input(model, i, &tensor), "input");
    inputs[i] = stored(tensors, std::string("input.") + tensor.name, tensor).data;
  }
  for (size_t i = 0; i < results.size(); ++i) {
    require(penstock_output(model, i, &tensor), "output");
    results[i].resize(tensor.bytes);
    outputs.push_back(results[i].data());
  }
  penstock_memory memory;
  require(penstock_memory_use(model, &memory), "memory");
  std::printf("%s, %zu bytes of arena, %zu bytes of weights\n", penstock_device(model), memory.arena_bytes, memory.weight_bytes);
  require(penstock_profile(model, options.profile ? 1 : 0), "profile");
  for (int i = 0; i < options.repeat; ++i) {
    const auto start = std::chrono::steady_clock::now();
    require(penstock_run(model, inputs.data(), outputs.data()), "running");
    std::printf("%.3f ms\n", std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  penstock_launch launch;
  for (size_t i = 0; options.profile && i < penstock_launch_count(model); ++i) {
    require(penstock_launch_profile(model, i, &launch), "profile");
    std::printf("%9.3f us  %s\n", launch.runs == 0 ? 0 : 1e6 * launch.seconds / static_cast<double>(launch.runs), launch.kernel);
  }
  bool ok = options.repeat > 0;
  for (size_t i = 0; options.repeat > 0 && i < results.size(); ++i) {
    require(penstock_output(model, i, &tensor), "output");
    ok = compare(tensor, stored(tensors, std::string("output.") + tensor.name, tensor).data, results[i].data()) && ok;
  }
  penstock_free(model);
  return ok ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
  const Options options = parse(count, arguments);
  try {
    return run(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "penstock-run: %s\n", error.what());
    return 1;
  }
}
