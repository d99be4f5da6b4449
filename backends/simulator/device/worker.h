// Runs the groups of a kernel one after the other: threads that wait for each other as fibers, others in a plain loop.
#ifndef PENSTOCK_SIMULATOR_WORKER_H_
#define PENSTOCK_SIMULATOR_WORKER_H_

#include <algorithm>
#include <random>
#include <utility>

#include "fault.h"
#include "fibers.h"
#include "group.h"
#include "shared.h"

namespace penstock {

enum class State { ready, waiting, done };

struct Wait {
  enum class For { group, subgroup, exchange } what;
  int line;
  bool orders_memory;
  // Of an exchange.
  const char* call;
  void* value;
  size_t bytes;
  int from;
  bool keep_outside;
  char given[16];
};

struct Worker {
  Worker() : fibers(&Worker::work, this) {}

  // Run one group, its threads in a shuffled order or the reverse of it.
  void run(const Kernel& of, const Buffer* buffers, uint group, bool reversed) {
    prepare(of, buffers, group);
    if (of.cooperates) {
      run_together(group, reversed);
      return;
    }
    for (uint i = 0; i < count; ++i) run_thread(reversed ? count - 1 - i : i);
    if (!failure.empty()) throw Fault{std::exchange(failure, {})};
  }

  void wait(const Thread& thread, const Wait& reason) {
    waits[thread.index] = reason;
    states[thread.index] = State::waiting;
    fibers.wait();
  }

  SharedMemory shared;

 private:
  void run_together(uint group, bool reversed) {
    shared.begin(count);
    states.assign(count, State::ready);
    waits.resize(count);
    shuffle(group, reversed);
    fibers.grow(count);
    try {
      do {
        for (const uint thread : order)
          if (states[thread] == State::ready) fibers.resume(thread);
        if (!failure.empty()) throw Fault{std::exchange(failure, {})};
      } while (release_subgroups() || release_group());
    } catch (...) {
      fibers.clear();
      throw;
    }
  }

  void prepare(const Kernel& of, const Buffer* buffers, uint group) {
    if (kernel != &of || threads.empty() || threads[0].buffers != buffers) {
      kernel = &of;
      count = of.block[0] * of.block[1] * of.block[2];
      threads.resize(std::max<size_t>(threads.size(), count));
      for (uint i = 0; i < count; ++i) {
        const uint position[3] = {i % of.block[0], i / of.block[0] % of.block[1], i / of.block[0] / of.block[1]};
        threads[i] = {i, {position[0], position[1], position[2]}, {0, 0, 0}, {of.block[0], of.block[1], of.block[2]},
                      {of.grid[0], of.grid[1], of.grid[2]}, of.subgroup, buffers, this};
      }
      shared.prepare(of);
    }
    const uint at[3] = {group % of.grid[0], group / of.grid[0] % of.grid[1], group / of.grid[0] / of.grid[1]};
    for (uint i = 0; i < count; ++i) std::copy(at, at + 3, threads[i].group);
  }

  void shuffle(uint seed, bool reversed) {
    order.resize(count);
    for (uint i = 0; i < count; ++i) order[i] = i;
    std::minstd_rand random(seed + 1);
    for (uint i = count; i > 1; --i) std::swap(order[i - 1], order[random() % i]);
    if (reversed) std::reverse(order.begin(), order.end());
  }

  void run_thread(size_t index) {
    try {
      kernel->run(threads[index]);
    } catch (const Fault& fault) {
      if (failure.empty()) failure = where(threads[index]) + fault.text;
    }
  }

  static void work(void* context, size_t index) {
    Worker& self = *static_cast<Worker*>(context);
    self.run_thread(index);
    self.states[index] = State::done;
  }

  static std::string where(const Thread& thread) {
    return "thread " + triple(thread.position) + " of group " + triple(thread.group) + " ";
  }

  bool waits_for(uint thread, Wait::For what) const { return states[thread] == State::waiting && waits[thread].what == what; }

  // Let those go on that wait for their own SIMD-group. Whether any did.
  bool release_subgroups() {
    bool any = false;
    for (uint first = 0; first < count; first += kernel->subgroup) {
      const uint last = std::min(first + kernel->subgroup, count);
      any = release_barrier(first, last) || release_exchange(first, last) || any;
    }
    return any;
  }

  // A barrier of a SIMD-group needs all its lanes; they may come there after an exchange that others wait for now.
  bool release_barrier(uint first, uint last) {
    uint here = first, exchanging = 0, together = 0;
    while (here < last && !waits_for(here, Wait::For::subgroup)) ++here;
    if (here == last) return false;
    for (uint i = first; i < last; ++i) {
      exchanging += waits_for(i, Wait::For::exchange);
      together += waits_for(i, Wait::For::subgroup) && waits[i].line == waits[here].line;
    }
    if (exchanging != 0) return false;
    if (together != last - first) divergent(first, last, Wait::For::subgroup);
    if (waits[first].orders_memory) shared.subgroup_barrier(first / kernel->subgroup);
    std::fill(&states[first], &states[first] + (last - first), State::ready);
    return true;
  }

  // Lanes that take no part have no value to give: whoever asks for it gets NaN.
  bool release_exchange(uint first, uint last) {
    taking_part.clear();
    for (uint i = first; i < last; ++i) {
      if (!waits_for(i, Wait::For::exchange)) continue;
      if (!taking_part.empty() && waits[i].line < waits[taking_part[0]].line) taking_part.clear();
      if (taking_part.empty() || waits[i].line == waits[taking_part[0]].line) taking_part.push_back(i);
    }
    for (const uint i : taking_part) std::memcpy(waits[i].given, waits[i].value, waits[i].bytes);
    const auto takes_part = [&](uint i) { return i < last && waits_for(i, Wait::For::exchange) && waits[i].line == waits[taking_part[0]].line; };
    for (const uint i : taking_part) {
      const Wait& wait = waits[i];
      const bool inside = wait.from >= 0 && wait.from < static_cast<int>(kernel->subgroup);
      const uint source = first + static_cast<uint>(wait.from);
      if (!inside && !wait.keep_outside) {
        fault(where(threads[i]), "calls ", wait.call, " in line ", wait.line, " for lane ", wait.from, " of ", kernel->subgroup);
      } else if (inside && takes_part(source)) {
        std::memcpy(wait.value, waits[source].given, wait.bytes);
      } else if (inside) {
        std::memset(wait.value, 0xff, wait.bytes);
      }
    }
    for (const uint i : taking_part) states[i] = State::ready;
    return !taking_part.empty();
  }

  // All threads wait at one barrier, or all are done.
  bool release_group() {
    const bool ended = std::all_of(states.begin(), states.end(), [](State state) { return state == State::done; });
    if (ended) return false;
    for (uint i = 0; i < count; ++i)
      if (!waits_for(i, Wait::For::group) || waits[i].line != waits[0].line) divergent(0, count, Wait::For::group);
    shared.group_barrier();
    std::fill(states.begin(), states.end(), State::ready);
    return true;
  }

  [[noreturn]] void divergent(uint first, uint last, Wait::For what) {
    const auto waiting = [&](uint i) { return waits_for(i, what); };
    uint here = first;
    while (!waiting(here)) ++here;
    const auto same = [&](uint i) { return waiting(i) && waits[i].line == waits[here].line; };
    uint there = first, together = 0;
    for (uint i = first; i < last; ++i) together += same(i);
    while (same(there)) ++there;
    std::ostringstream other;
    if (states[there] == State::done) {
      other << "has ended";
    } else {
      other << "waits in line " << waits[there].line;
    }
    fault("divergent barrier in line ", waits[here].line, " of its source: ", together, " of ", last - first, " threads of ",
          what == Wait::For::group ? "group " : "a SIMD-group of group ", triple(threads[here].group), " wait there, but thread ",
          triple(threads[there].position), " ", other.str());
  }

  Fibers fibers;
  const Kernel* kernel = nullptr;
  uint count = 0;
  std::vector<Thread> threads;
  std::vector<State> states;
  std::vector<Wait> waits;
  std::vector<uint> order, taking_part;
  std::string failure;
};

}  // namespace penstock
#endif
