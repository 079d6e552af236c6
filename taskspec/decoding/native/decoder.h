// A decoder, one pass over its layers, and what a thread works with meanwhile.

#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "products.h"

namespace {

struct Layer {
  Weight qkv, out, gate_up, down;  // gate and up alternate every 16 columns
  const float *qkv_bias, *input_norm, *mlp_norm, *query_norm, *key_norm;  // biases and the last
  bf16 *keys, *values;  // [rows][kv heads][length / 16][head / 2][16][2], [..][length][head]
  int32_t window;       // keys a query sees, itself included; 0: all
};

struct Decoder {
  int32_t layers, hidden, heads, kv_heads, head, intermediate, length;
  float epsilon, scale;
  const float *cosines, *sines, *final_norm;  // [length][head], [length][head], [hidden]
  const Layer* layer;
};

struct Pass {
  int32_t tokens, threads, kept;
  const int32_t *rows, *positions, *keep;  // per token, per token, ascending layers to keep
  float* residual;     // [tokens][hidden]: embeddings in
  bf16* states;        // [tokens][kept + 1][hidden]: the final state, then those before layers
  float* projected;    // [tokens][(heads + 2 kv heads) head]
  bf16 *mixed, *inner;  // [tokens][heads head], [tokens][intermediate]
};

constexpr int kQueries = 16;  // queries that read a stretch of keys one after the other

struct Scratch {  // of one thread
  Meeting& others;
  std::vector<bf16> normed;
  std::vector<Prepared> queries;    // [queries][head]
  std::unique_ptr<float[]> scores;  // [queries][length], written before it is read
  std::vector<float> mixed;         // [queries][head]

  Scratch(const Decoder& d, int tokens, Meeting& meeting) : others(meeting) {
    const int count = std::min(kQueries, tokens * d.heads);
    normed.resize(static_cast<int64_t>(tokens) * 2 * d.hidden);
    queries.resize(count * d.head);
    scores = std::make_unique_for_overwrite<float[]>(static_cast<int64_t>(count) * d.length);
    mixed.resize(count * d.head);
  }
};

// out = values * weight / rms(values); float32 sums, as transformers computes it.
template <typename Store>
void rms_norm(const float* values, const float* weight, int size, float epsilon, Store store) {
  Floats squares = all(0.f);
  for (int i = 0; i < size; i += kLanes) {
    const Floats x = load16(values + i);
    squares = multiply_add(x, x, squares);
  }
  const float scale = 1.f / std::sqrt(total(squares) / size + epsilon);
  for (int i = 0; i < size; i += kLanes)
    store(i, load16(values + i) * all(scale) * load16(weight + i));
}

}  // namespace
