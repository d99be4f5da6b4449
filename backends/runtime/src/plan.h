// A launch plan in memory: what docs/launch_plan.md describes, parsed and checked.
#ifndef PENSTOCK_PLAN_H_
#define PENSTOCK_PLAN_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace penstock {

struct Type {
  std::string dtype;
  std::vector<int64_t> shape;
  int64_t bytes = 0;

  bool operator==(const Type& other) const { return dtype == other.dtype && shape == other.shape; }
};

// Bytes of one element; 0 for a dtype that no plan has.
int64_t item_bytes(const std::string& dtype);
// Throws std::invalid_argument for what is no type.
Type parse_type(const std::string& text);

enum class Space { arena, parameter, weight };

struct Value {
  std::string name;
  Type type;
  Space space = Space::arena;
  size_t index = 0;
  int64_t offset = 0;
};

struct Argument {
  size_t value = 0;
  std::vector<int64_t> strides;  // bytes per iteration of each enclosing loop, outermost first
};

struct Op {
  enum class Kind { launch, copy, loop } kind = Kind::launch;
  size_t kernel = 0;            // launch
  std::vector<Argument> args;   // launch; copy: from, to
  int64_t count = 0;            // loop
  std::vector<Op> ops;          // loop
};

struct Graph {
  std::string name;
  std::vector<Type> parameters;
  std::vector<Value> values;
  std::vector<Op> ops;
};

struct Kernel {
  std::string name, file, sha256, entry;
  int64_t grid[3] = {1, 1, 1}, block[3] = {1, 1, 1};
  int64_t local_bytes = 0;
  std::vector<Type> arguments;
  std::vector<bool> writes;
};

struct Weight {
  std::string name, stored;
  Type type;
};

struct Call {
  size_t graph = 0;
  std::vector<size_t> args;  // top-level values
};

struct Plan {
  std::string kind;
  int64_t alignment = 64;
  int64_t lower_bound = 0;
  std::vector<int64_t> arenas;
  std::string weights_file, weights_sha256, library, library_sha256;
  std::vector<Weight> weights;
  std::vector<Kernel> kernels;
  std::vector<Graph> graphs;
  std::vector<Value> values;
  std::vector<size_t> inputs, outputs;
  std::vector<Call> calls;  // of all steps of all phases, in order
};

// Parse and check the text of plan.json. Everything that it says about itself holds afterwards.
// `check_hashes`: compare the digest of the text and the seals of the kernels too.
Plan read_plan(std::string_view text, bool check_hashes);

// Part of read_plan: bounds, alignment, overlap, seals.
void validate(const Plan& plan);

}  // namespace penstock
#endif
