// Pointers and arrays of the three address spaces. Each access is checked against the bounds of what it points into.
#ifndef PENSTOCK_SIMULATOR_MEMORY_H_
#define PENSTOCK_SIMULATOR_MEMORY_H_

#include "group.h"

namespace penstock {

// Into a buffer of the launch, or into an array of the thread's own.
template <class T>
struct Pointer {
  using Item = T;
  char* at;
  char* begin;
  size_t bytes;
  const char* what;

  template <class I>
  T& operator[](I i) const {
    return access(at + static_cast<ptrdiff_t>(i) * static_cast<ptrdiff_t>(sizeof(T)));
  }
  T& operator*() const { return access(at); }
  template <class I>
  Pointer operator+(I i) const {
    return {at + static_cast<ptrdiff_t>(i) * static_cast<ptrdiff_t>(sizeof(T)), begin, bytes, what};
  }
  template <class I>
  Pointer operator-(I i) const {
    return *this + -static_cast<ptrdiff_t>(i);
  }
  template <class U>
  operator Pointer<U>() const {
    return {at, begin, bytes, what};
  }

 private:
  static T& access(char* place, const Pointer& pointer) {
    const size_t offset = static_cast<size_t>(place - pointer.begin);
    if (__builtin_expect(offset > pointer.bytes || pointer.bytes - offset < sizeof(T), 0))
      out_of_bounds(pointer.what, place - pointer.begin, pointer.bytes, sizeof(T));
    if constexpr (is_vector<T>)
      if (__builtin_expect(reinterpret_cast<uintptr_t>(place) % device_alignment<T>() != 0, 0))
        misaligned(pointer.what, place - pointer.begin, device_alignment<T>());
    return *reinterpret_cast<T*>(place);
  }
  T& access(char* place) const { return access(place, *this); }
};

template <class T>
Pointer<T> buffer(const Thread& thread, int index, const char* name) {
  const Buffer& held = thread.buffers[index];
  return {held.data, held.data, held.bytes, name};
}

// An array of one thread. It starts with NaN, or what that is as an integer: nobody should read what was not written.
template <class T, int N>
struct Private {
  using Item = T;
  alignas(32) T v[N];  // kernels load vectors from it, of four 64-bit integers at most

  Private() { std::memset(static_cast<void*>(v), 0xff, sizeof v); }
  template <class I>
  T& operator[](I i) {
    if (__builtin_expect(static_cast<size_t>(i) >= N, 0)) out_of_bounds("a private array", static_cast<ptrdiff_t>(i) * sizeof(T), sizeof v, sizeof(T));
    return v[i];
  }
  template <class I>
  Pointer<T> operator+(I i) {
    return Pointer<T>(*this) + i;
  }
  template <class U>
  operator Pointer<U>() {
    char* begin = reinterpret_cast<char*>(v);
    return {begin, begin, sizeof v, "a private array"};
  }
};

template <class T>
struct Local;

// An element of a shared array; tells reading and writing apart. Its address is a place in the array.
template <class T>
struct Shared {
  const Thread& thread;
  const LocalArray& array;
  ptrdiff_t offset;

  Shared(const Thread& t, const LocalArray& a, ptrdiff_t o) : thread(t), array(a), offset(o) {}
  Shared(const Shared&) = default;
  operator T() const {
    T value;
    std::memcpy(static_cast<void*>(&value), read_local(thread, array, offset, sizeof(T)), sizeof(T));
    return value;
  }
  // For explicit casts, e.g. of a half to float.
  template <class U, class = std::enable_if_t<!std::is_same_v<U, T> && (std::is_arithmetic_v<U> || std::is_same_v<U, half> || is_vector<U>)>>
  explicit operator U() const {
    return static_cast<U>(static_cast<T>(*this));
  }
  Shared& operator=(const T& value) {
    std::memcpy(write_local(thread, array, offset, sizeof(T)), &value, sizeof(T));
    return *this;
  }
  Shared& operator=(const Shared& other) { return *this = static_cast<T>(other); }
  Shared& operator+=(const T& value) { return *this = static_cast<T>(*this) + value; }
  Local<T> operator&() const { return Local<T>(thread, array, offset); }
};

// Into a shared array.
template <class T>
struct Local {
  using Item = T;
  const Thread* thread;
  const LocalArray* array;
  ptrdiff_t offset;

  Local(const Thread& t, const LocalArray& a, ptrdiff_t o = 0) : thread(&t), array(&a), offset(o) {}
  template <class I>
  Shared<T> operator[](I i) const {
    return {*thread, *array, offset + static_cast<ptrdiff_t>(i) * static_cast<ptrdiff_t>(sizeof(T))};
  }
  Shared<T> operator*() const { return (*this)[0]; }
  template <class I>
  Local operator+(I i) const {
    return {*thread, *array, offset + static_cast<ptrdiff_t>(i) * static_cast<ptrdiff_t>(sizeof(T))};
  }
  template <class I>
  Local operator-(I i) const {
    return *this + -static_cast<ptrdiff_t>(i);
  }
  template <class U>
  operator Local<U>() const {
    return {*thread, *array, offset};
  }
};

}  // namespace penstock
#endif
