// Products of a few tokens with a packed weight, whose bytes stream by once.

#pragma once

#include <algorithm>
#include <vector>

#include "lanes.h"
#include "threads.h"

namespace {

constexpr int kGroup = 2 * kLanes;  // output columns computed together
constexpr int kTile = 8;            // tokens computed together
constexpr int kAccumulators = 16;   // registers that hold sums while weights stream through
constexpr int kLine = 64;           // bytes that memory gives at a time

// Weights [out][in] in groups of 32 columns: bf16 [out / 32][in / 2][32][2], or, where there are
// scales, one byte each in the same order: column c holds scales[c] * (byte - kZero).
struct Weight {
  const void* data;
  const float* scales;
};

constexpr int kZero = 64;  // the byte of a weight of zero

// M tokens times the 32 columns of a group: the weights stream by, sums stay in registers. Meanwhile
// as many bytes at `next` come from memory, evenly, so that it works while the products do.
template <int M, typename Stored>
void multiply_group(const void* weights, const void* next, const Prepared* inputs, int in,
                    Floats (&sums)[kTile][2]) {
  constexpr int kFit = kAccumulators / M < 1 ? 1 : kAccumulators / M;
  constexpr int kRegisters = kGroup / kWidth;
  constexpr int kAtOnce = kFit >= 4 && kRegisters >= 4 ? 4 : kFit >= 2 ? 2 : 1;
  constexpr int kFetched = 2 * kGroup * sizeof(Stored) * kAtOnce / kRegisters;  // bytes at a time
  const char* fetched = static_cast<const char*>(next);
  for (int from = 0; from < kRegisters; from += kAtOnce) {
    const Stored* place = static_cast<const Stored*>(weights) + from * 2 * kWidth;
    Register own[M][kAtOnce];
    for (int m = 0; m < M; ++m)
      for (int r = 0; r < kAtOnce; ++r) own[m][r] = zero();
    for (int pair = 0; pair < in / 2; ++pair, place += 2 * kGroup, fetched += kFetched) {
      for (int line = 0; line < kFetched; line += kLine) __builtin_prefetch(fetched + line, 0, 2);
      const auto input_of = [&](int m) {
        return input(inputs + static_cast<int64_t>(m) * in + 2 * pair);
      };
      // What is fewer stays in registers: the inputs of up to two tokens, else the weights.
      if constexpr (M <= 2) {
        Input x[M];
        for (int m = 0; m < M; ++m) x[m] = input_of(m);
        for (int r = 0; r < kAtOnce; ++r) {
          const Pairs column = pairs(place + r * 2 * kWidth);
          for (int m = 0; m < M; ++m) own[m][r] = add_products(own[m][r], column, x[m]);
        }
      } else {
        Pairs columns[kAtOnce];
        for (int r = 0; r < kAtOnce; ++r) columns[r] = pairs(place + r * 2 * kWidth);
        for (int m = 0; m < M; ++m) {
          const Input x = input_of(m);
          for (int r = 0; r < kAtOnce; ++r) own[m][r] = add_products(own[m][r], columns[r], x);
        }
      }
    }
    for (int m = 0; m < M; ++m)
      for (int r = 0; r < kAtOnce; ++r)
        sums[m][(from + r) / kParts].part[(from + r) % kParts] = own[m][r];
  }
}

using Multiply = void (*)(const void*, const void*, const Prepared*, int, Floats (&)[kTile][2]);
template <typename Stored>
constexpr Multiply kMultiply[] = {
    nullptr,
    multiply_group<1, Stored>,
    multiply_group<2, Stored>,
    multiply_group<3, Stored>,
    multiply_group<4, Stored>,
    multiply_group<5, Stored>,
    multiply_group<6, Stored>,
    multiply_group<7, Stored>,
    multiply_group<8, Stored>};

// Inputs as products read them; `room` holds them where that is not how they lie.
const Prepared* prepare(const bf16* values, int64_t size, std::vector<Prepared>& room) {
  if constexpr (sizeof(Prepared) == sizeof(bf16)) {
    return reinterpret_cast<const Prepared*>(values);
  } else {
    room.resize(size);
    int64_t i = 0;
    for (; i + kWidth <= size; i += kWidth) store(reinterpret_cast<float*>(&room[i]), widen(values + i));
    for (; i < size; ++i) {
      const uint32_t bits = static_cast<uint32_t>(values[i]) << 16;
      std::memcpy(&room[i], &bits, sizeof bits);
    }
    return room.data();
  }
}

// Sixteen values rounded to bf16, as products read them.
void prepare16(Prepared* to, const Floats& x) {
  bf16 rounded[kLanes];
  narrow16(rounded, x);
  if constexpr (sizeof(Prepared) == sizeof(bf16))
    std::memcpy(to, rounded, sizeof rounded);
  else
    store16(reinterpret_cast<float*>(to), widen16(rounded));
}

float sum_of(const bf16* values, int size) {
  Floats sum = all(0.f);
  int i = 0;
  for (; i + kLanes <= size; i += kLanes) sum = sum + widen16(values + i);
  bf16 rest[kLanes] = {};
  std::copy(values + i, values + size, rest);
  return total(sum + widen16(rest));
}

Range own_groups(int out) { return share((out + kGroup - 1) / kGroup); }

int64_t group_size(const Weight& weight, int in) {
  return static_cast<int64_t>(in) * kGroup * (weight.scales ? sizeof(uint8_t) : sizeof(bf16));
}

// Where this thread's share of a weight begins.
const char* own_part(const Weight& weight, int out, int in) {
  return static_cast<const char*>(weight.data) + own_groups(out).begin * group_size(weight, in);
}

// This thread's share of the output columns of a weight, for every token: store(token, first
// column, 32 sums). `after` is what the thread multiplies by next, or null.
template <typename Store>
void linear(const Weight& weight, int out, int in, const bf16* inputs, int tokens, const char* after,
            Store store) {
  const Range groups = own_groups(out);
  const bool bytes = weight.scales != nullptr;
  const Multiply* products = bytes ? kMultiply<uint8_t> : kMultiply<bf16>;
  const int64_t size = group_size(weight, in);
  std::vector<Prepared> room;
  const Prepared* ready = prepare(inputs, static_cast<int64_t>(tokens) * in, room);
  std::vector<float> excess(bytes ? tokens : 0);
  for (int t = 0; t < static_cast<int>(excess.size()); ++t)
    excess[t] = (128 + kZero) * sum_of(inputs + static_cast<int64_t>(t) * in, in);
  Floats sums[kTile][2];
  const char* group = own_part(weight, out, in);
  for (int g = groups.begin; g < groups.end; ++g, group += size) {
    const char* following = g + 1 < groups.end ? group + size : after ? after : group;
    for (int from = 0; from < tokens; from += kTile) {
      const int count = tokens - from < kTile ? tokens - from : kTile;
      // The first tokens are the most, so that the memory has longest time meanwhile.
      const char* next = from == 0 ? following : group;
      products[count](group, next, ready + static_cast<int64_t>(from) * in, in, sums);
      for (int m = 0; m < count; ++m) {
        for (int half = 0; bytes && half < 2; ++half) {
          const Floats scale = load16(weight.scales + g * kGroup + half * kLanes);
          sums[m][half] = (sums[m][half] - all(excess[from + m])) * scale;
        }
        store(from + m, g * kGroup, sums[m]);
      }
    }
  }
}

}  // namespace
