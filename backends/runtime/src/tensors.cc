#include "tensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "error.h"
#include "json.h"
#include "sha256.h"

namespace penstock {
namespace {

constexpr size_t kLongestHeader = 100'000'000;  // what the format allows

[[noreturn]] void unreadable(const std::string& name, int code) {
  if (code == ELOOP || code == ENOTDIR) damaged(name, " is a link or lies behind one, as no artifact holds one");
  damaged(name, " cannot be read: ", std::strerror(code));
}

// Opens a file component by component, so that no link leads out of the folder.
int open_below(const std::string& folder, const std::string& name) {
  int at = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (at < 0) fail(PENSTOCK_BAD_ARTIFACT, folder, " is no folder that can be read: ", std::strerror(errno), "; name the folder that `penstock compile` wrote");
  for (size_t start = 0; start <= name.size();) {
    const size_t end = std::min(name.find('/', start), name.size());
    const bool last = end == name.size();
    const int next = openat(at, name.substr(start, end - start).c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | (last ? 0 : O_DIRECTORY));
    const int code = errno;
    close(at);
    if (next < 0) unreadable(name, code);
    at = next;
    start = end + 1;
  }
  return at;
}

std::string dtype_of(const Json& json) {
  static const std::pair<const char*, const char*> kNames[] = {
      {"F16", "float16"}, {"F32", "float32"}, {"F64", "float64"}, {"I8", "int8"}, {"I16", "int16"},
      {"I32", "int32"},   {"I64", "int64"},   {"U8", "uint8"},    {"BOOL", "bool"}};
  for (const auto& [stored, ours] : kNames)
    if (json.string() == stored) return ours;
  damaged(json.path(), ": unknown dtype '", json.string(), "'");
}

Type type_of(const std::string& text, const Json& entry) {
  try {
    return parse_type(text);
  } catch (const std::invalid_argument& error) {
    damaged(entry.path(), ": ", error.what());
  }
}

}  // namespace

MappedFile::MappedFile(const std::string& folder, const std::string& name) : name_(name), descriptor_(open_below(folder, name)) {
  struct stat status;
  if (fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(descriptor_);
    damaged(name, " is no regular file");
  }
  size_ = static_cast<size_t>(status.st_size);
  if (size_ == 0) return;
  void* mapped = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor_, 0);
  if (mapped == MAP_FAILED) {
    const int code = errno;
    close(descriptor_);
    fail(PENSTOCK_NO_MEMORY, name, " cannot be mapped: ", std::strerror(code));
  }
  data_ = static_cast<const char*>(mapped);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<char*>(data_), size_);
  close(descriptor_);
}

void MappedFile::check(const std::string& expected) const {
  if (sha256(data_, size_) != expected) damaged(name_, ": its content has changed since it was written");
  drop();
}

void MappedFile::drop() const {
  if (data_ != nullptr) madvise(const_cast<char*>(data_), size_, MADV_DONTNEED);
}

std::map<std::string, StoredTensor> read_tensors(const MappedFile& file) {
  uint64_t length = 0;
  if (file.size() < sizeof length) damaged(file.name(), ": too short for a safetensors file");
  for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(file.data()[i]);
  if (length > kLongestHeader || length > file.size() - sizeof length) damaged(file.name(), ": its header would reach beyond its end");
  const Document header({file.data() + sizeof length, static_cast<size_t>(length)}, file.name().c_str());
  const char* data = file.data() + sizeof length + length;
  const int64_t room = static_cast<int64_t>(file.size() - sizeof length - length);

  std::map<std::string, StoredTensor> tensors;
  std::vector<std::pair<int64_t, int64_t>> ranges;
  for (const auto [name, entry] : header.root().object()) {
    if (name == "__metadata__") continue;
    entry.only({"dtype", "shape", "data_offsets"});
    std::string type = dtype_of(entry.at("dtype")) + "[";
    for (const Json extent : entry.at("shape").array()) type += (type.back() == '[' ? "" : ",") + std::to_string(extent.integer(0, INT64_MAX));
    StoredTensor tensor{type_of(type + "]", entry), nullptr};
    const Json::Items offsets = entry.at("data_offsets").array();
    if (offsets.size() != 2) damaged(entry.path(), ": expected two offsets");
    const int64_t begin = (*offsets.begin()).integer(0, room), end = (*++offsets.begin()).integer(begin, room);
    if (end - begin != tensor.type.bytes) damaged(entry.path(), ": ", end - begin, " bytes stored, expected ", tensor.type.bytes);
    tensor.data = data + begin;
    ranges.emplace_back(begin, end);
    tensors.emplace(name, std::move(tensor));
  }
  std::sort(ranges.begin(), ranges.end());
  int64_t covered = 0;
  for (const auto& [begin, end] : ranges) {
    if (begin != covered) damaged(file.name(), ": its tensors overlap or leave a gap at byte ", std::min(begin, covered));
    covered = end;
  }
  if (covered != room) damaged(file.name(), ": ", room - covered, " bytes belong to no tensor");
  return tensors;
}

}  // namespace penstock
