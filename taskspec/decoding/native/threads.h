// What the threads of a pass share: their parts of the work, and where they wait.

#pragma once

#include <immintrin.h>
#include <omp.h>

#include <atomic>
#include <cstdint>

namespace {

// Where the threads of a pass wait for one another. OpenMP's own barrier turns for milliseconds,
// which costs little on cores of one's own and, on cores that other processes use too, the time
// that the late thread needs to come.
class Meeting {
 public:
  void wait() {
    const int now = round_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == omp_get_num_threads()) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(now + 1, std::memory_order_release);
      round_.notify_all();
      return;
    }
    for (int turn = 0; turn < kTurns; ++turn) {
      if (round_.load(std::memory_order_acquire) != now) return;
      _mm_pause();
    }
    while (round_.load(std::memory_order_acquire) == now) round_.wait(now, std::memory_order_acquire);
  }

 private:
  static constexpr int kTurns = 2000;  // some tens of microseconds
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<int> round_{0};
};

struct Range {
  int begin, end;
};

Range share(int count) {
  const int threads = omp_get_num_threads(), me = omp_get_thread_num();
  const auto at = [&](int i) { return static_cast<int>(static_cast<int64_t>(count) * i / threads); };
  return {at(me), at(me + 1)};
}

}  // namespace
