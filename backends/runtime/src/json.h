// A reader of JSON for files that nobody trusts: bounded depth, no duplicate keys, integers only, exact errors.
#ifndef PENSTOCK_JSON_H_
#define PENSTOCK_JSON_H_

#include <cstdint>
#include <deque>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace penstock {

class Document;

// One value of a document, which must outlive it.
class Json {
 public:
  enum class Kind : uint8_t { null, boolean, integer, string, array, object };
  class Items;
  class Members;

  Json(const Document* document, size_t index) : document_(document), index_(index) {}

  Kind kind() const;
  bool is_null() const { return kind() == Kind::null; }

  // Accessors fail with the path of the value when it is of another kind.
  int64_t integer() const;
  int64_t integer(int64_t low, int64_t high) const;
  std::string_view string() const;
  Items array() const;
  Members object() const;

  // The member of an object; fails where it is missing.
  Json at(std::string_view key) const;
  bool has(std::string_view key) const;
  // Fails on members that are not among `keys`.
  void only(std::initializer_list<std::string_view> keys) const;

  // Where this value stands, e.g. "plan.json: graphs.main.ops[3]".
  std::string path() const;

 private:
  const Document* document_;
  size_t index_;
};

// A parsed text: its values one after the other, each before what it contains.
class Document {
 public:
  // `where` names the file in errors. It and the text must outlive the document.
  Document(std::string_view text, const char* where);
  Document(const Document&) = delete;
  Document& operator=(const Document&) = delete;

  Json root() const { return Json(this, 0); }

 private:
  friend class Json;
  friend class Parser;
  struct Node {
    Json::Kind kind = Json::Kind::null;
    uint32_t end = 0;      // the node behind this one and its content
    int64_t integer = 0;   // or the number of items, or the length of a string; members are a key and a value
    const char* start = nullptr;

    std::string_view string() const { return {start, static_cast<size_t>(integer)}; }
  };

  const char* where_;
  std::vector<Node> nodes_;
  std::deque<std::string> unescaped_;  // strings that do not stand in the text as they are
};

// The items of a list.
class Json::Items {
 public:
  class Iterator {
   public:
    Iterator(const Document* document, size_t index) : document_(document), index_(index) {}
    Json operator*() const { return Json(document_, index_); }
    Iterator& operator++() {
      index_ = document_->nodes_[index_].end;
      return *this;
    }
    bool operator!=(const Iterator& other) const { return index_ != other.index_; }

   private:
    const Document* document_;
    size_t index_;
  };

  Items(const Document* document, size_t index) : document_(document), index_(index) {}
  Iterator begin() const { return Iterator(document_, index_ + 1); }
  Iterator end() const { return Iterator(document_, document_->nodes_[index_].end); }
  size_t size() const { return static_cast<size_t>(document_->nodes_[index_].integer); }

 private:
  friend class Json;
  const Document* document_;
  size_t index_;
};

struct JsonMember {
  std::string_view key;
  Json value;
};

// The members of an object, in the order of the text.
class Json::Members {
 public:
  class Iterator {
   public:
    Iterator(const Document* document, size_t index) : document_(document), index_(index) {}
    JsonMember operator*() const { return {document_->nodes_[index_].string(), Json(document_, index_ + 1)}; }
    Iterator& operator++() {
      index_ = document_->nodes_[index_ + 1].end;
      return *this;
    }
    bool operator!=(const Iterator& other) const { return index_ != other.index_; }

   private:
    const Document* document_;
    size_t index_;
  };

  Members(const Document* document, size_t index) : document_(document), index_(index) {}
  Iterator begin() const { return Iterator(document_, index_ + 1); }
  Iterator end() const { return Iterator(document_, document_->nodes_[index_].end); }

 private:
  const Document* document_;
  size_t index_;
};

}  // namespace penstock
#endif
