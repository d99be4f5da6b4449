// A reader of JSON for files that nobody trusts: bounded depth, no duplicate keys, integers only, exact errors.
#ifndef PENSTOCK_JSON_H_
#define PENSTOCK_JSON_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace penstock {

class Json {
 public:
  enum class Kind { null, boolean, integer, string, array, object };

  // Parses a whole text. `where` names the file in errors. Both must outlive the result, which errors point into.
  static Json parse(std::string_view text, const char* where);

  Kind kind() const { return kind_; }
  bool is_null() const { return kind_ == Kind::null; }

  // Accessors fail with the path of the value when it is of another kind.
  int64_t integer() const;
  int64_t integer(int64_t low, int64_t high) const;
  const std::string& string() const;
  const std::vector<Json>& array() const;
  const std::vector<std::pair<std::string, Json>>& object() const;

  // The member of an object; fails where it is missing.
  const Json& at(const char* key) const;
  const Json* find(const char* key) const;
  // Fails on members that are not among `keys`.
  void only(std::initializer_list<const char*> keys) const;

  // Where this value stands, e.g. "plan.json, line 12".
  std::string path() const;

 private:
  friend class Parser;
  Kind kind_ = Kind::null;
  int64_t integer_ = 0;
  std::string string_;
  std::vector<Json> array_;
  std::vector<std::pair<std::string, Json>> object_;
  const char* where_ = "";  // the file,
  const char* text_ = nullptr;  // its content,
  size_t at_ = 0;  // and the place in it
};

}  // namespace penstock
#endif
