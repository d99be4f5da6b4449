#include "json.h"

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <set>

#include "error.h"

namespace penstock {

namespace {
constexpr int kDeepest = 32;
const char* const kKinds[] = {"null", "a boolean", "an integer", "a string", "a list", "an object"};

[[noreturn]] void expected(const Json& value, const char* what) {
  damaged(value.path(), ": expected ", what, ", found ", kKinds[static_cast<int>(value.kind())]);
}

bool is_utf8(std::string_view text) {
  constexpr uint32_t kSmallest[] = {0, 0x80, 0x800, 0x10000};  // that needs so many bytes after the first
  for (size_t i = 0; i < text.size();) {
    const unsigned char lead = static_cast<unsigned char>(text[i++]);
    if (lead < 0x80) continue;
    const int tail = lead >= 0xC0 && lead < 0xE0 ? 1 : lead >= 0xE0 && lead < 0xF0 ? 2 : lead >= 0xF0 && lead < 0xF8 ? 3 : 0;
    if (tail == 0) return false;
    uint32_t code = lead & (0x3Fu >> tail);
    for (int left = tail; left > 0; --left, ++i) {
      if (i == text.size() || (text[i] & 0xC0) != 0x80) return false;
      code = code << 6 | (text[i] & 0x3Fu);
    }
    if (code < kSmallest[tail] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return false;
  }
  return true;
}
}  // namespace

class Parser {
 public:
  Parser(std::string_view text, const char* where) : text_(text), where_(where) {}

  Json whole() {
    Json value = this->value(0);
    space();
    if (at_ != text_.size()) error("more after the end");
    return value;
  }

 private:
  [[noreturn]] void error(const char* what) const { damaged(where_, ": not JSON at byte ", at_, ": ", what); }

  void space() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) ++at_;
  }

  bool take(char wanted) {
    space();
    if (at_ >= text_.size() || text_[at_] != wanted) return false;
    ++at_;
    return true;
  }

  void word(std::string_view wanted) {
    if (text_.substr(at_, wanted.size()) != wanted) error("an unknown word");
    at_ += wanted.size();
  }

  Json value(int depth) {
    if (depth > kDeepest) error("nested too deep");
    space();
    if (at_ >= text_.size()) error("it ends too early");
    Json json;
    json.where_ = where_, json.text_ = text_.data(), json.at_ = at_;
    switch (text_[at_]) {
      case '{': object(&json, depth); break;
      case '[': array(&json, depth); break;
      case '"':
        json.kind_ = Json::Kind::string;
        json.string_ = string();
        break;
      case 'n': word("null"); break;
      case 't':
        word("true");
        json.kind_ = Json::Kind::boolean;
        json.integer_ = 1;
        break;
      case 'f':
        word("false");
        json.kind_ = Json::Kind::boolean;
        break;
      default:
        json.kind_ = Json::Kind::integer;
        json.integer_ = integer();
    }
    return json;
  }

  void array(Json* json, int depth) {
    json->kind_ = Json::Kind::array;
    ++at_;
    if (take(']')) return;
    do {
      json->array_.push_back(value(depth + 1));
    } while (take(','));
    if (!take(']')) error("a list without ']'");
  }

  void object(Json* json, int depth) {
    json->kind_ = Json::Kind::object;
    ++at_;
    if (take('}')) return;
    std::set<std::string> keys;
    do {
      space();
      if (at_ >= text_.size() || text_[at_] != '"') error("a key is no string");
      std::string key = string();
      if (!keys.insert(key).second) error("a key stands twice");
      if (!take(':')) error("a key without ':'");
      json->object_.emplace_back(std::move(key), value(depth + 1));
    } while (take(','));
    if (!take('}')) error("an object without '}'");
  }

  std::string string() {
    std::string result;
    for (++at_; at_ < text_.size(); ++at_) {
      const unsigned char c = static_cast<unsigned char>(text_[at_]);
      if (c == '"') {
        if (!is_utf8(result)) error("the string before is not UTF-8");
        return ++at_, result;
      }
      if (c < 0x20) error("a control character in a string");
      if (c != '\\') {
        result += static_cast<char>(c);
        continue;
      }
      if (++at_ >= text_.size()) break;
      const std::string_view escapes = "\"\\/bfnrt", meant = "\"\\/\b\f\n\r\t";
      if (const size_t found = escapes.find(text_[at_]); found != std::string_view::npos) {
        result += meant[found];
      } else if (text_[at_] == 'u') {
        append_utf8(&result, code_point());
      } else {
        error("an unknown escape");
      }
    }
    error("a string without an end");
  }

  uint32_t hex4() {
    uint32_t code = 0;
    for (int digit = 0; digit < 4; ++digit) {
      const char c = ++at_ < text_.size() ? text_[at_] : ' ';
      const int bits = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
      if (bits < 0) error("a bad \\u escape");
      code = code * 16 + static_cast<uint32_t>(bits);
    }
    return code;
  }

  uint32_t code_point() {
    const uint32_t high = hex4();
    if (high < 0xD800 || high > 0xDFFF) return high;
    if (high > 0xDBFF || text_.substr(at_ + 1, 2) != "\\u") error("half a surrogate pair");
    at_ += 2;
    const uint32_t low = hex4();
    if (low < 0xDC00 || low > 0xDFFF) error("half a surrogate pair");
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
  }

  static void append_utf8(std::string* out, uint32_t code) {
    const auto tail = [&](int shift) { *out += static_cast<char>(0x80 | ((code >> shift) & 0x3F)); };
    if (code < 0x80) {
      *out += static_cast<char>(code);
    } else if (code < 0x800) {
      *out += static_cast<char>(0xC0 | (code >> 6));
      tail(0);
    } else if (code < 0x10000) {
      *out += static_cast<char>(0xE0 | (code >> 12));
      tail(6), tail(0);
    } else {
      *out += static_cast<char>(0xF0 | (code >> 18));
      tail(12), tail(6), tail(0);
    }
  }

  int64_t integer() {
    const bool negative = text_[at_] == '-';
    if (negative) ++at_;
    const size_t start = at_;
    uint64_t value = 0;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      const uint64_t digit = static_cast<uint64_t>(text_[at_] - '0');
      if (value > (static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) - digit) / 10) error("a number is too large");
      value = value * 10 + digit;
    }
    if (at_ == start) error("a value of no known kind");
    if (at_ < text_.size() && std::string_view(".eE").find(text_[at_]) != std::string_view::npos) error("a number is no integer");
    return negative ? -static_cast<int64_t>(value) : static_cast<int64_t>(value);
  }

  std::string_view text_;
  const char* where_;
  size_t at_ = 0;
};

Json Json::parse(std::string_view text, const char* where) { return Parser(text, where).whole(); }

std::string Json::path() const {
  return text(where_, ", line ", 1 + std::count(text_, text_ + at_, '\n'));
}

int64_t Json::integer() const {
  if (kind_ != Kind::integer) expected(*this, "an integer");
  return integer_;
}

int64_t Json::integer(int64_t low, int64_t high) const {
  const int64_t value = integer();
  if (value < low || value > high) damaged(path(), ": ", value, " is not between ", low, " and ", high);
  return value;
}

const std::string& Json::string() const {
  if (kind_ != Kind::string) expected(*this, "a string");
  return string_;
}

const std::vector<Json>& Json::array() const {
  if (kind_ != Kind::array) expected(*this, "a list");
  return array_;
}

const std::vector<std::pair<std::string, Json>>& Json::object() const {
  if (kind_ != Kind::object) expected(*this, "an object");
  return object_;
}

const Json* Json::find(const char* key) const {
  for (const auto& [name, value] : object())
    if (name == key) return &value;
  return nullptr;
}

const Json& Json::at(const char* key) const {
  const Json* value = find(key);
  if (value == nullptr) damaged(path(), ": the key '", key, "' is missing");
  return *value;
}

void Json::only(std::initializer_list<const char*> keys) const {
  for (const auto& member : object())
    if (std::none_of(keys.begin(), keys.end(), [&](const char* key) { return member.first == key; }))
      damaged(path(), ": unknown key '", member.first, "'");
}

}  // namespace penstock
