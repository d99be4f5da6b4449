// Holds the parts of a plan against each other, so that nothing is read or written outside of what was allocated.
#include <algorithm>
#include <limits>
#include <set>

#include "error.h"
#include "plan.h"

namespace penstock {
namespace {

constexpr int64_t kLargest = std::numeric_limits<int64_t>::max() / 2;
constexpr int64_t kMostLaunches = int64_t{1} << 24;  // of one run: beyond it a plan is taken for a hang

// What is wrong, without saying where; each level on the way out adds its own place in front.
struct Problem {
  std::string text;
};

template <class... Parts>
[[noreturn]] void bad(const Parts&... parts) {
  throw Problem{text(parts...)};
}

template <class Place, class Check>
auto at(Place place, Check check) {
  try {
    return check();
  } catch (const Problem& problem) {
    bad(place(), ": ", problem.text);
  }
}

using Loops = std::vector<int64_t>;  // counts of the enclosing loops, outermost first

// How far an argument moves in all loops around it, in bytes.
int64_t travel(const Argument& argument, const Loops& loops) {
  int64_t total = 0;
  for (size_t i = 0; i < argument.strides.size(); ++i) {
    const int64_t steps = loops[i] - 1;
    if (steps != 0 && argument.strides[i] > (kLargest - total) / steps) bad("a stride is too large");
    total += argument.strides[i] * steps;
  }
  return total;
}

// The bytes of the container that a value looks into.
int64_t container_bytes(const Plan& plan, const Graph* graph, const Value& value) {
  switch (value.space) {
    case Space::arena: return plan.arenas[value.index];
    case Space::weight: return plan.weights[value.index].type.bytes;
    case Space::parameter: return graph->parameters[value.index].bytes;
  }
  return 0;
}

void check_range(const Plan& plan, const Graph* graph, const Value& value, int64_t moved, int64_t bytes) {
  const int64_t room = container_bytes(plan, graph, value);
  if (value.offset > room || moved > room - value.offset || bytes > room - value.offset - moved)
    bad("'", value.name, "' reaches byte ", value.offset, " + ", moved, " + ", bytes, " of ", room);
}

bool same_strides(const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
  for (size_t i = 0; i < std::max(a.size(), b.size()); ++i)
    if ((i < a.size() ? a[i] : 0) != (i < b.size() ? b[i] : 0)) return false;
  return true;
}

// Checks a graph as one call runs it: with what the call hands over in the place of its parameters.
class GraphCheck {
 public:
  GraphCheck(const Plan& plan, const Graph& graph, const Call* call) : plan_(plan), graph_(graph), call_(call) {}

  // Returns how many launches and copies one run of the graph makes.
  int64_t run() {
    for (const Value& value : graph_.values) {
      check_range(plan_, &graph_, value, 0, value.type.bytes);
      if (value.offset % item_bytes(value.type.dtype) != 0) bad("'", value.name, "' is not aligned for ", value.type.dtype);
    }
    return ops(graph_.ops, {});
  }

 private:
  int64_t ops(const std::vector<Op>& ops, const Loops& loops) {
    int64_t total = 0;
    for (size_t i = 0; i < ops.size(); ++i) {
      total += at([&] { return text("op ", i); }, [&] { return op(ops[i], loops); });
      if (total > kMostLaunches) bad("a run would make more than ", kMostLaunches, " launches");
    }
    return total;
  }

  int64_t op(const Op& op, const Loops& loops) {
    if (op.kind == Op::Kind::launch) return launch(op, loops), 1;
    if (op.kind == Op::Kind::copy) return copy(op, loops), 1;
    Loops inner = loops;
    inner.push_back(op.count);
    const int64_t each = std::max<int64_t>(1, ops(op.ops, inner));
    if (each > kMostLaunches / op.count) bad("a run would make more than ", kMostLaunches, " launches");
    return each * op.count;
  }

  void launch(const Op& op, const Loops& loops) {
    const Kernel& kernel = plan_.kernels[op.kernel];
    if (op.args.size() != kernel.arguments.size())
      bad("kernel '", kernel.name, "' takes ", kernel.arguments.size(), " arguments, not ", op.args.size());
    for (size_t i = 0; i < op.args.size(); ++i) {
      argument(op.args[i], kernel.arguments[i], loops, kernel.writes[i]);
      for (size_t j = 0; j < i; ++j)
        if (kernel.writes[i] || kernel.writes[j])
          no_partial_overlap(op.args[i], kernel.arguments[i].bytes, op.args[j], kernel.arguments[j].bytes, loops);
    }
  }

  void copy(const Op& op, const Loops& loops) {
    const Type &from = graph_.values[op.args[0].value].type, &to = graph_.values[op.args[1].value].type;
    if (from.bytes != to.bytes) bad("a copy of ", from.bytes, " bytes into ", to.bytes);
    argument(op.args[0], from, loops, false);
    argument(op.args[1], to, loops, true);
    no_partial_overlap(op.args[0], from.bytes, op.args[1], to.bytes, loops);
  }

  void argument(const Argument& argument, const Type& type, const Loops& loops, bool writes) {
    const Value& value = graph_.values[argument.value];
    check_range(plan_, &graph_, value, travel(argument, loops), type.bytes);
    const int64_t item = item_bytes(type.dtype);
    if (value.offset % item != 0) bad("'", value.name, "' is not aligned for ", type.dtype);
    for (int64_t stride : argument.strides)
      if (stride % item != 0) bad("a stride of '", value.name, "' is not a multiple of ", item);
    if (writes && value.space == Space::weight) bad("the weight '", value.name, "' would be written");
  }

  // Two ranges of one container are equal, or apart in every iteration.
  void no_partial_overlap(const Argument& a, int64_t a_bytes, const Argument& b, int64_t b_bytes, const Loops& loops) {
    const Value x = resolved(graph_.values[a.value]), y = resolved(graph_.values[b.value]);
    if (x.space != y.space || x.index != y.index || a_bytes == 0 || b_bytes == 0) return;
    const bool together = same_strides(a.strides, b.strides);
    if (together && x.offset == y.offset && a_bytes == b_bytes) return;
    // Where the two move differently, their ranges over all iterations must be apart.
    const int64_t x_moved = together ? 0 : travel(a, loops), y_moved = together ? 0 : travel(b, loops);
    if (x.offset < y.offset + y_moved + b_bytes && y.offset < x.offset + x_moved + a_bytes)
      bad("'", x.name, "' and '", y.name, "' overlap in part, and one of them is written");
  }

  // A value with the memory that it lies in, as far as the call tells.
  Value resolved(const Value& value) const {
    if (value.space != Space::parameter || call_ == nullptr) return value;
    Value held = plan_.values[call_->args[value.index]];
    held.name = value.name;
    held.offset += value.offset;
    return held;
  }

  const Plan& plan_;
  const Graph& graph_;
  const Call* call_;
};

// What a call hands over has the types that the graph asks for, and no weight is written.
void check_call(const Plan& plan, const Call& call, const std::vector<bool>& written) {
  const Graph& graph = plan.graphs[call.graph];
  if (call.args.size() != graph.parameters.size())
    bad("graph '", graph.name, "' takes ", graph.parameters.size(), " parameters, not ", call.args.size());
  for (size_t i = 0; i < call.args.size(); ++i) {
    const Value& value = plan.values[call.args[i]];
    if (!(value.type == graph.parameters[i])) bad("parameter ", i, " has another type than '", value.name, "'");
    if (written[i] && value.space == Space::weight) bad("the weight '", value.name, "' would be written");
  }
}

void mark_written(const Plan& plan, const Graph& graph, const std::vector<Op>& ops, std::vector<bool>* written) {
  const auto mark = [&](const Argument& argument) {
    const Value& value = graph.values[argument.value];
    if (value.space == Space::parameter) (*written)[value.index] = true;
  };
  for (const Op& op : ops) {
    if (op.kind == Op::Kind::loop) mark_written(plan, graph, op.ops, written);
    if (op.kind == Op::Kind::copy) mark(op.args[1]);
    if (op.kind == Op::Kind::launch)
      for (size_t i = 0; i < op.args.size(); ++i)
        if (plan.kernels[op.kernel].writes[i]) mark(op.args[i]);
  }
}

void check(const Plan& plan) {
  std::vector<int64_t> launches;
  std::vector<std::vector<bool>> written;
  std::set<std::pair<size_t, std::vector<size_t>>> known;
  for (const Graph& graph : plan.graphs) {
    const auto run = [&] { return GraphCheck(plan, graph, nullptr).run(); };
    launches.push_back(at([&] { return text("graph '", graph.name, "'"); }, run));
    written.emplace_back(graph.parameters.size(), false);
    mark_written(plan, graph, graph.ops, &written.back());
  }
  for (const Value& value : plan.values) {
    check_range(plan, nullptr, value, 0, value.type.bytes);
    if (value.space == Space::arena && value.offset % plan.alignment != 0)
      bad("'", value.name, "' is at byte ", value.offset, ", which is not aligned to ", plan.alignment);
  }
  for (size_t input : plan.inputs)
    if (plan.values[input].space == Space::weight) bad("the weight '", plan.values[input].name, "' would be written as an input");
  int64_t total = 0;
  for (size_t i = 0; i < plan.calls.size(); ++i) {
    const Call& call = plan.calls[i];
    at([&] { return text("call ", i); }, [&] {
      if (!known.insert({call.graph, call.args}).second) return;
      check_call(plan, call, written[call.graph]);
      GraphCheck(plan, plan.graphs[call.graph], &call).run();
    });
    total += launches[call.graph];
    if (total > kMostLaunches) bad("a run would make more than ", kMostLaunches, " launches");
  }
}

}  // namespace

void validate(const Plan& plan) {
  try {
    check(plan);
  } catch (const Problem& problem) {
    damaged("plan.json: ", problem.text);
  }
}

}  // namespace penstock
