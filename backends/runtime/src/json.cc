#include "json.h"

#include <algorithm>
#include <limits>

#include "error.h"

namespace penstock {

namespace {
constexpr int kDeepest = 32;
constexpr size_t kLongest = std::numeric_limits<uint32_t>::max();
constexpr size_t kUsualBytesPerNode = 8;
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
  Parser(std::string_view text, Document* document) : text_(text), document_(document) {}

  void whole() {
    if (text_.size() > kLongest) error("it is too long");
    document_->nodes_.reserve(text_.size() / kUsualBytesPerNode);
    value(0);
    space();
    if (at_ != text_.size()) error("more after the end");
  }

 private:
  using Kind = Json::Kind;

  [[noreturn]] void error(const char* what) const { damaged(document_->where_, ": not JSON at byte ", at_, ": ", what); }

  void space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r')) ++at_;
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

  void value(int depth) {
    if (depth > kDeepest) error("nested too deep");
    space();
    if (at_ >= text_.size()) error("it ends too early");
    const size_t index = document_->nodes_.size();
    document_->nodes_.emplace_back();
    switch (text_[at_]) {
      case '{': finish(index, Kind::object, object(depth)); break;
      case '[': finish(index, Kind::array, array(depth)); break;
      case '"':
        string(index);
        break;
      case 'n':
        word("null");
        finish(index, Kind::null, 0);
        break;
      case 't':
        word("true");
        finish(index, Kind::boolean, 1);
        break;
      case 'f':
        word("false");
        finish(index, Kind::boolean, 0);
        break;
      default: finish(index, Kind::integer, integer());
    }
  }

  void finish(size_t index, Kind kind, int64_t integer) {
    Document::Node& node = document_->nodes_[index];
    node.kind = kind;
    node.integer = integer;
    node.end = static_cast<uint32_t>(document_->nodes_.size());
  }

  int64_t array(int depth) {
    ++at_;
    int64_t items = 0;
    if (take(']')) return items;
    do {
      value(depth + 1);
      ++items;
    } while (take(','));
    if (!take(']')) error("a list without ']'");
    return items;
  }

  int64_t object(int depth) {
    ++at_;
    const size_t first = keys_.size();
    if (take('}')) return 0;
    do {
      space();
      if (at_ >= text_.size() || text_[at_] != '"') error("a key is no string");
      const size_t index = document_->nodes_.size();
      document_->nodes_.emplace_back();
      string(index);
      keys_.push_back(document_->nodes_[index].string());
      if (!take(':')) error("a key without ':'");
      value(depth + 1);
    } while (take(','));
    if (!take('}')) error("an object without '}'");
    const auto keys = keys_.begin() + static_cast<std::ptrdiff_t>(first);
    std::sort(keys, keys_.end());
    if (std::adjacent_find(keys, keys_.end()) != keys_.end()) error("a key stands twice in the object before");
    const int64_t members = keys_.end() - keys;
    keys_.resize(first);
    return members;
  }

  void string(size_t index) {
    const std::string_view text = string();
    finish(index, Kind::string, static_cast<int64_t>(text.size()));
    document_->nodes_[index].start = text.data();
  }

  // Most strings stand in the text as they are.
  std::string_view string() {
    const size_t start = ++at_;
    bool ascii = true;
    for (; at_ < text_.size() && text_[at_] != '\\'; ++at_) {
      const unsigned char c = static_cast<unsigned char>(text_[at_]);
      if (c < 0x20) error("a control character in a string");
      ascii = ascii && c < 0x80;
      if (c != '"') continue;
      const std::string_view result = text_.substr(start, at_++ - start);
      if (!ascii && !is_utf8(result)) error("the string before is not UTF-8");
      return result;
    }
    at_ = start - 1;
    return document_->unescaped_.emplace_back(unescaped());
  }

  std::string unescaped() {
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
  Document* document_;
  size_t at_ = 0;
  std::vector<std::string_view> keys_;  // of the objects that are open
};

Document::Document(std::string_view text, const char* where) : where_(where) { Parser(text, this).whole(); }

std::string Json::path() const {
  std::string path;
  const std::vector<Document::Node>& nodes = document_->nodes_;
  for (size_t at = 0; at != index_;) {  // step into the item or member that holds this value
    const bool object = nodes[at].kind == Kind::object;
    size_t number = 0, inner = at + 1 + object;
    for (; nodes[inner].end <= index_; ++number) inner = nodes[inner].end + object;
    if (object) {
      path += path.empty() ? "" : ".";
      path += nodes[inner - 1].string();
    } else {
      path += text('[', number, ']');
    }
    at = inner;
  }
  return path.empty() ? document_->where_ : text(document_->where_, ": ", path);
}

Json::Kind Json::kind() const { return document_->nodes_[index_].kind; }

int64_t Json::integer() const {
  if (kind() != Kind::integer) expected(*this, "an integer");
  return document_->nodes_[index_].integer;
}

int64_t Json::integer(int64_t low, int64_t high) const {
  const int64_t value = integer();
  if (value < low || value > high) damaged(path(), ": ", value, " is not between ", low, " and ", high);
  return value;
}

std::string_view Json::string() const {
  if (kind() != Kind::string) expected(*this, "a string");
  return document_->nodes_[index_].string();
}

Json::Items Json::array() const {
  if (kind() != Kind::array) expected(*this, "a list");
  return Items(document_, index_);
}

Json::Members Json::object() const {
  if (kind() != Kind::object) expected(*this, "an object");
  return Members(document_, index_);
}

bool Json::has(std::string_view key) const {
  for (const auto [name, value] : object())
    if (name == key) return true;
  return false;
}

Json Json::at(std::string_view key) const {
  for (const auto [name, value] : object())
    if (name == key) return value;
  damaged(path(), ": the key '", key, "' is missing");
}

void Json::only(std::initializer_list<std::string_view> keys) const {
  for (const auto [name, value] : object())
    if (std::find(keys.begin(), keys.end(), name) == keys.end()) damaged(path(), ": unknown key '", name, "'");
}

}  // namespace penstock
