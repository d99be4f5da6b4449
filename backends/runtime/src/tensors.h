// Files of an artifact, mapped into memory, and the safetensors format.
#ifndef PENSTOCK_TENSORS_H_
#define PENSTOCK_TENSORS_H_

#include <map>
#include <string>
#include <string_view>

#include "plan.h"

namespace penstock {

// A file below a folder, mapped read-only. Links are not followed. It stays open as long as the object lives.
class MappedFile {
 public:
  MappedFile(const std::string& folder, const std::string& name);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const char* data() const { return data_; }
  size_t size() const { return size_; }
  std::string_view text() const { return {data_, size_}; }
  int descriptor() const { return descriptor_; }
  const std::string& name() const { return name_; }

  // Fails when the content has another hash.
  void check(const std::string& sha256) const;
  // Give pages that were read back to the system; they are read again when needed.
  void drop() const;

 private:
  std::string name_;
  int descriptor_ = -1;
  const char* data_ = nullptr;
  size_t size_ = 0;
};

struct StoredTensor {
  Type type;
  const char* data;
};

// The tensors of a safetensors file by name; they point into the mapping.
std::map<std::string, StoredTensor> read_tensors(const MappedFile& file);

}  // namespace penstock
#endif
