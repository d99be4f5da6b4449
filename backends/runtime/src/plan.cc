#include "plan.h"

#include <cstring>
#include <limits>
#include <stdexcept>

#include "error.h"
#include "json.h"
#include "sha256.h"

namespace penstock {
namespace {

constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();
constexpr size_t kMostDims = 16;
constexpr int64_t kMostThreads = int64_t{1} << 31;
constexpr int64_t kMostIterations = int64_t{1} << 24;

std::string file_name(const Json& json) {
  const std::string name(json.string());
  bool plain = !name.empty() && name.front() != '/' && name.find('\\') == std::string::npos && name.find('\0') == std::string::npos;
  for (size_t start = 0; plain && start <= name.size();) {
    const size_t end = std::min(name.find('/', start), name.size());
    const std::string part = name.substr(start, end - start);
    plain = !part.empty() && part != "." && part != "..";
    start = end + 1;
  }
  if (!plain) damaged(json.path(), ": the file name '", name, "' leads out of the artifact");
  return name;
}

std::string digest(const Json& json) {
  const std::string hex(json.string());
  if (hex.size() != 64 || hex.find_first_not_of("0123456789abcdef") != std::string::npos)
    damaged(json.path(), ": not a SHA-256 in lower-case hexadecimal");
  return hex;
}

Type type_of(const Json& json) {
  try {
    return parse_type(std::string(json.string()));
  } catch (const std::invalid_argument& error) {
    damaged(json.path(), ": ", error.what());
  }
}

size_t index_of(const Json& json, size_t count, const char* what) {
  const int64_t index = json.integer();
  if (index < 0 || static_cast<size_t>(index) >= count) damaged(json.path(), ": there is no ", what, " ", index, ", only ", count);
  return static_cast<size_t>(index);
}

void read_extent(const Json& json, int64_t* extent) {
  if (json.array().size() != 3) damaged(json.path(), ": expected three numbers");
  for (const Json number : json.array()) *extent++ = number.integer(1, kMostThreads);
}

Kernel read_kernel(const Json& json, bool in_library) {
  json.only({"name", "file", "sha256", "entry", "grid", "block", "local_bytes", "arguments", "writes", "seal"});
  Kernel kernel;
  kernel.name = json.at("name").string();
  kernel.entry = json.at("entry").string();
  if (in_library != json.at("file").is_null()) damaged(json.path(), ": a kernel has either a file or a place in the library");
  if (!in_library) {
    kernel.file = file_name(json.at("file"));
    kernel.sha256 = digest(json.at("sha256"));
  }
  read_extent(json.at("grid"), kernel.grid);
  read_extent(json.at("block"), kernel.block);
  kernel.local_bytes = json.at("local_bytes").integer(0, kMostThreads);
  for (const Json argument : json.at("arguments").array()) kernel.arguments.push_back(type_of(argument));
  kernel.writes.assign(kernel.arguments.size(), false);
  for (const Json argument : json.at("writes").array())
    kernel.writes[index_of(argument, kernel.arguments.size(), "argument")] = true;
  digest(json.at("seal"));
  return kernel;
}

std::string seal_of(const Kernel& kernel, const Json& json, const std::string& code) {
  std::ostringstream out;
  out << kernel.name << '|' << code << '|' << kernel.entry;
  for (const int64_t* extent : {kernel.grid, kernel.block}) out << '|' << extent[0] << ',' << extent[1] << ',' << extent[2];
  out << '|' << kernel.local_bytes << '|';
  const char* between = "";
  for (const Json argument : json.at("arguments").array()) out << between << argument.string(), between = ";";
  out << '|';
  between = "";
  for (const Json argument : json.at("writes").array()) out << between << argument.integer(), between = ",";
  return sha256(out.str());
}

Value read_value(const Json& json, const Plan& plan, const Graph* graph) {
  json.only({"name", "type", "at"});
  Value value;
  value.name = json.at("name").string();
  value.type = type_of(json.at("type"));
  const Json at = json.at("at");
  if (at.array().size() != 3) damaged(at.path(), ": expected a space, an index and an offset");
  auto item = at.array().begin();
  const std::string space((*item).string());
  size_t count = 0;
  if (space == "arena") {
    value.space = Space::arena, count = plan.arenas.size();
  } else if (space == "weight") {
    value.space = Space::weight, count = plan.weights.size();
  } else if (space == "parameter" && graph != nullptr) {
    value.space = Space::parameter, count = graph->parameters.size();
  } else {
    damaged(at.path(), ": there is no space '", space, "' here");
  }
  value.index = index_of(*++item, count, space.c_str());
  value.offset = (*++item).integer(0, kLargest);
  return value;
}

Argument read_argument(const Json& json, size_t values, size_t loops) {
  Argument argument;
  if (json.kind() == Json::Kind::integer) {
    argument.value = index_of(json, values, "value");
    return argument;
  }
  if (json.array().size() == 0) damaged(json.path(), ": expected a value and strides");
  auto item = json.array().begin();
  argument.value = index_of(*item, values, "value");
  while (++item != json.array().end()) argument.strides.push_back((*item).integer(0, kLargest));
  if (argument.strides.size() > loops) damaged(json.path(), ": more strides than loops around it");
  return argument;
}

Op read_op(const Json& json, const Plan& plan, const Graph& graph, size_t loops) {
  Op op;
  if (json.has("launch")) {
    json.only({"launch", "args"});
    op.kernel = index_of(json.at("launch"), plan.kernels.size(), "kernel");
    for (const Json arg : json.at("args").array()) op.args.push_back(read_argument(arg, graph.values.size(), loops));
  } else if (json.has("copy")) {
    json.only({"copy"});
    op.kind = Op::Kind::copy;
    for (const Json end : json.at("copy").array()) op.args.push_back(read_argument(end, graph.values.size(), loops));
    if (op.args.size() != 2) damaged(json.path(), ": a copy has two ends");
  } else {
    json.only({"loop", "ops"});
    op.kind = Op::Kind::loop;
    op.count = json.at("loop").integer(1, kMostIterations);
    for (const Json inner : json.at("ops").array()) op.ops.push_back(read_op(inner, plan, graph, loops + 1));
  }
  return op;
}

Graph read_graph(std::string_view name, const Json& json, const Plan& plan) {
  json.only({"parameters", "values", "ops"});
  Graph graph;
  graph.name = name;
  for (const Json type : json.at("parameters").array()) graph.parameters.push_back(type_of(type));
  for (const Json value : json.at("values").array()) graph.values.push_back(read_value(value, plan, &graph));
  for (const Json op : json.at("ops").array()) graph.ops.push_back(read_op(op, plan, graph, 0));
  return graph;
}

Call read_call(const Json& json, const Plan& plan) {
  json.only({"call", "args"});
  Call call;
  const std::string_view name = json.at("call").string();
  while (call.graph < plan.graphs.size() && plan.graphs[call.graph].name != name) ++call.graph;
  if (call.graph == plan.graphs.size()) damaged(json.path(), ": there is no graph '", name, "'");
  for (const Json arg : json.at("args").array()) call.args.push_back(index_of(arg, plan.values.size(), "value"));
  return call;
}

// The last member is the digest of the text before its comma, and nothing stands behind it.
void check_digest(std::string_view text, const Json& json) {
  const size_t comma = text.rfind(",\n \"digest\"");
  const std::string hex = digest(json.at("digest"));
  if (comma == std::string_view::npos || text.substr(comma) != ",\n \"digest\": \"" + hex + "\"\n}\n" || sha256(text.data(), comma) != hex)
    damaged("plan.json: its content has changed since it was written");
}

}  // namespace

int64_t item_bytes(const std::string& dtype) {
  if (dtype == "bool" || dtype == "int8" || dtype == "uint8") return 1;
  if (dtype == "float16" || dtype == "int16") return 2;
  if (dtype == "float32" || dtype == "int32") return 4;
  if (dtype == "float64" || dtype == "int64") return 8;
  return 0;
}

Type parse_type(const std::string& text) {
  const auto bad = [&](const char* why) { throw std::invalid_argument("'" + text + "' is no type: " + why); };
  const size_t open = text.find('[');
  if (open == std::string::npos || text.back() != ']') bad("expected dtype[extents]");
  Type type;
  type.dtype = text.substr(0, open);
  type.bytes = item_bytes(type.dtype);
  if (type.bytes == 0) bad("unknown dtype");
  const std::string inside = text.substr(open + 1, text.size() - open - 2);
  for (size_t start = 0; !inside.empty() && start <= inside.size();) {
    const size_t end = std::min(inside.find(',', start), inside.size());
    const std::string digits = inside.substr(start, end - start);
    if (digits.empty() || digits.size() > 18 || digits.find_first_not_of("0123456789") != std::string::npos) bad("an extent is no number");
    const int64_t extent = std::stoll(digits);
    if (extent != 0 && type.bytes > (kLargest / 2) / extent) bad("it is too large");
    type.bytes *= extent;
    type.shape.push_back(extent);
    if (type.shape.size() > kMostDims) bad("too many dimensions");
    start = end + 1;
  }
  return type;
}

Plan read_plan(std::string_view text, bool check_hashes) {
  const Document document(text, "plan.json");
  const Json json = document.root();
  if (!json.has("format") || json.at("format").string() != "penstock-plan") damaged("plan.json: not a launch plan");
  const int64_t version = json.at("version").integer();
  if (version != 1)
    fail(PENSTOCK_BAD_ARTIFACT, "plan.json: format version ", version, ", this runner reads version 1; use the runner of the penstock that wrote it");
  if (check_hashes) check_digest(text, json);
  json.only({"format", "version", "kind", "alignment", "lower_bound", "arenas", "weights", "library", "kernels", "graphs", "values",
             "inputs", "outputs", "phases", "digest"});

  Plan plan;
  plan.kind = json.at("kind").string();
  if (plan.kind != "llvm" && plan.kind != "opencl" && plan.kind != "metal" && plan.kind != "cuda")
    damaged("plan.json: unknown kind '", plan.kind, "'");
  plan.alignment = json.at("alignment").integer(16, 1 << 16);
  if ((plan.alignment & (plan.alignment - 1)) != 0) damaged("plan.json: alignment: ", plan.alignment, " is no power of two");
  plan.lower_bound = json.at("lower_bound").integer(0, kLargest);
  int64_t total = 0;
  for (const Json bytes : json.at("arenas").array()) {
    plan.arenas.push_back(bytes.integer(0, kLargest / 2 - total));
    total += plan.arenas.back();
  }
  const Json weights = json.at("weights");
  weights.only({"file", "sha256", "tensors"});
  plan.weights_file = file_name(weights.at("file"));
  plan.weights_sha256 = digest(weights.at("sha256"));
  for (const Json tensor : weights.at("tensors").array()) {
    tensor.only({"name", "type", "stored"});
    plan.weights.push_back({std::string(tensor.at("name").string()), std::string(tensor.at("stored").string()), type_of(tensor.at("type"))});
  }
  const Json library = json.at("library");
  const bool in_library = plan.kind == "llvm";
  if (in_library == library.is_null()) damaged("plan.json: a library is for kind llvm, and only for it");
  if (in_library) {
    library.only({"file", "sha256"});
    plan.library = file_name(library.at("file"));
    plan.library_sha256 = digest(library.at("sha256"));
  }
  for (const Json kernel : json.at("kernels").array()) {
    plan.kernels.push_back(read_kernel(kernel, in_library));
    const std::string& code = in_library ? plan.library_sha256 : plan.kernels.back().sha256;
    if (check_hashes && seal_of(plan.kernels.back(), kernel, code) != kernel.at("seal").string())
      damaged(kernel.path(), ": its seal does not match what is said of it");
  }
  for (const auto [name, graph] : json.at("graphs").object()) plan.graphs.push_back(read_graph(name, graph, plan));
  for (const Json value : json.at("values").array()) plan.values.push_back(read_value(value, plan, nullptr));
  for (const Json input : json.at("inputs").array()) plan.inputs.push_back(index_of(input, plan.values.size(), "value"));
  for (const Json output : json.at("outputs").array()) plan.outputs.push_back(index_of(output, plan.values.size(), "value"));
  for (const Json phase : json.at("phases").array()) {
    phase.only({"name", "steps"});
    phase.at("name").string();
    for (const Json step : phase.at("steps").array())
      for (const Json call : step.array()) plan.calls.push_back(read_call(call, plan));
  }
  validate(plan);
  return plan;
}

}  // namespace penstock
