// Loads and runs the artifacts whose paths stand on standard input, one line of answer for each: the code, a hash of
// the outputs, and the message. The library is loaded by name, so that any build of it can be tried.
//
//     driver LIBRARY THREADS RUNS < paths
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "penstock/runtime.h"

namespace {

constexpr size_t kMostBytes = size_t{64} << 20;  // of one tensor: larger ones are not worth the time

#define FUNCTIONS(X) X(error) X(load) X(free) X(device) X(input_count) X(output_count) X(input) X(output) X(run) \
  X(memory_use) X(profile) X(launch_count) X(launch_profile)

struct Library {
#define MEMBER(name) decltype(&penstock_##name) name = nullptr;
  FUNCTIONS(MEMBER)

  explicit Library(const char* path) {
    void* handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) fail(dlerror());
#define FIND(name)                                                                     \
  name = reinterpret_cast<decltype(&penstock_##name)>(dlsym(handle, "penstock_" #name)); \
  if (name == nullptr) fail("the library has no penstock_" #name);
    FUNCTIONS(FIND)
  }

  [[noreturn]] static void fail(const char* message) {
    std::fprintf(stderr, "driver: %s\n", message);
    std::exit(2);
  }
};

struct Answer {
  int code = 0;
  uint64_t hash = 14695981039346656037u;  // FNV-1a
  std::string message;

  void add(const std::vector<unsigned char>& bytes) {
    for (unsigned char byte : bytes) hash = (hash ^ byte) * 1099511628211u;
  }
};

std::vector<std::vector<unsigned char>> buffers(const Library& library, const penstock_model* model, bool inputs) {
  std::vector<std::vector<unsigned char>> result;
  const size_t count = inputs ? library.input_count(model) : library.output_count(model);
  for (size_t i = 0; i < count; ++i) {
    penstock_tensor tensor;
    if ((inputs ? library.input : library.output)(model, i, &tensor) != PENSTOCK_OK) Library::fail(library.error());
    if (tensor.bytes > kMostBytes) return {};
    result.emplace_back(tensor.bytes);
    for (size_t at = 0; inputs && at < tensor.bytes; ++at) result.back()[at] = static_cast<unsigned char>((at * 31 + i * 7) % 251);
  }
  return result;
}

void run(const Library& library, penstock_model* model, int runs, Answer* answer) {
  auto inputs = buffers(library, model, true), outputs = buffers(library, model, false);
  if (inputs.size() != library.input_count(model) || outputs.size() != library.output_count(model)) {
    answer->message = "its tensors are too large to try";
    return;
  }
  std::vector<const void*> from;
  std::vector<void*> to;
  for (auto& input : inputs) from.push_back(input.empty() ? nullptr : input.data());
  for (auto& output : outputs) to.push_back(output.empty() ? nullptr : output.data());
  for (int i = 0; i < runs && answer->code == PENSTOCK_OK; ++i) {
    library.profile(model, i % 2);
    answer->code = library.run(model, from.data(), to.data());
  }
  if (answer->code != PENSTOCK_OK) {
    answer->message = library.error();
    return;
  }
  for (const auto& output : outputs) answer->add(output);
}

// Every question that can be asked of a model, also those with a wrong index.
void ask(const Library& library, const penstock_model* model) {
  penstock_memory memory;
  penstock_launch launch;
  penstock_tensor tensor;
  if (library.memory_use(model, &memory) != PENSTOCK_OK || library.device(model)[0] == '\0') Library::fail("no memory or device");
  const size_t launches = library.launch_count(model);
  for (size_t i = 0; i < launches; ++i)
    if (library.launch_profile(model, i, &launch) != PENSTOCK_OK) Library::fail(library.error());
  if (library.launch_profile(model, launches, &launch) != PENSTOCK_BAD_ARGUMENT ||
      library.input(model, library.input_count(model), &tensor) != PENSTOCK_BAD_ARGUMENT)
    Library::fail("an index out of range passes");
}

Answer answer(const Library& library, const std::string& path, int threads, int runs) {
  Answer result;
  penstock_options options{};
  options.threads = threads;
  penstock_model* model = nullptr;
  result.code = library.load(path.c_str(), &options, &model);
  if ((model != nullptr) != (result.code == PENSTOCK_OK)) Library::fail("a model without success, or success without one");
  if (result.code != PENSTOCK_OK) {
    result.message = library.error();
    return result;
  }
  ask(library, model);
  run(library, model, runs, &result);
  library.free(model);
  return result;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) Library::fail("usage: driver LIBRARY THREADS RUNS < paths");
  const Library library(arguments[1]);
  for (std::string path; std::getline(std::cin, path);) {
    Answer result = answer(library, path, std::atoi(arguments[2]), std::atoi(arguments[3]));
    for (char& c : result.message)
      if (c == '\n' || c == '\t') c = ' ';
    std::cout << result.code << '\t' << std::hex << result.hash << std::dec << '\t' << result.message << std::endl;
  }
  return 0;
}
