// A decoder's pass over a few tokens, in bf16 with float32 sums, for CPUs with AVX-512 BF16 or AVX2.
//
// Every sum runs in one order, whatever the number of tokens, rows or threads, so a token's
// result does not depend on what else is in the pass. Tensors are contiguous; `tokens` of a pass
// lie one after the other, each with the cache row it belongs to and its position in it.

#include "lanes.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

namespace {

constexpr int kGroup = 2 * kLanes;  // output columns computed together
constexpr int kTile = 8;            // tokens computed together
constexpr int kAccumulators = 16;   // registers that hold sums while weights stream through
constexpr int kBlocks = 4;          // blocks of 16 keys scored together
constexpr int kLine = 64;           // bytes that memory gives at a time

bf16 round_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<bf16>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

Floats silu(const Floats& x) { return x / (all(1.f) + exponential(all(0.f) - x)); }

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

extern "C" {

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

// The instructions that these kernels are made of.
const char* instructions() { return kInstructions; }

// Rows [out][in] of a weight to groups of 32 columns, pairs of inputs side by side.
void pack(const bf16* weight, int32_t out, int32_t in, bf16* packed) {
  const int64_t groups = (out + kGroup - 1) / kGroup;
#pragma omp parallel for
  for (int64_t g = 0; g < groups; ++g)
    for (int pair = 0; pair < in / 2; ++pair)
      for (int column = 0; column < kGroup; ++column)
        for (int i = 0; i < 2; ++i) {
          const int64_t row = g * kGroup + column;
          packed[((g * (in / 2) + pair) * kGroup + column) * 2 + i] =
              row < out ? weight[row * in + 2 * pair + i] : 0;
        }
}

// outputs float32 [tokens][out] of inputs bf16 [tokens][in].
void apply_linear(const Weight* weight, const float* bias, int32_t out, int32_t in,
                  const bf16* inputs, int32_t tokens, float* outputs, int32_t threads) {
#pragma omp parallel num_threads(threads)
  linear(*weight, out, in, inputs, tokens, nullptr, [&](int token, int column, const Floats* sums) {
    float* place = outputs + static_cast<int64_t>(token) * out + column;
    float values[kGroup];
    store16(values, sums[0]);
    store16(values + kLanes, sums[1]);
    const int count = std::min(kGroup, out - column);
    for (int i = 0; i < count; ++i) place[i] = bias ? values[i] + bias[column + i] : values[i];
  });
}

}  // extern "C"

namespace {

struct Scratch {  // of one thread
  Meeting& others;
  std::vector<bf16> normed, query;
  std::vector<Prepared> ready;
  std::vector<float> scores;
};

// Rotary embedding (rotate-half) of one head, after its norm where there is one.
void rotate(const Decoder& d, const float* weight, int position, float* values) {
  if (weight)
    rms_norm(values, weight, d.head, d.epsilon,
             [&](int i, const Floats& x) { store16(values + i, x); });
  const float* cosines = d.cosines + static_cast<int64_t>(position) * d.head;
  const float* sines = d.sines + static_cast<int64_t>(position) * d.head;
  const int half = d.head / 2;
  for (int i = 0; i < half; ++i) {
    const float left = values[i], right = values[i + half];
    values[i] = left * cosines[i] - right * sines[i];
    values[i + half] = right * cosines[i + half] + left * sines[i + half];
  }
}

int64_t cache_place(const Decoder& d, int row, int kv_head) {
  return (static_cast<int64_t>(row) * d.kv_heads + kv_head) * d.length * d.head;
}

// Write one token's rotated key and its value of one head into the cache.
void remember(const Decoder& d, const Layer& layer, int row, int position, int kv_head,
              float* projected) {
  float* key = projected + (d.heads + kv_head) * d.head;
  const float* value = projected + (d.heads + d.kv_heads + kv_head) * d.head;
  rotate(d, layer.key_norm, position, key);
  bf16* keys = layer.keys + cache_place(d, row, kv_head) +
               static_cast<int64_t>(position / kLanes) * d.head * kLanes + position % kLanes * 2;
  for (int i = 0; i < d.head; ++i) keys[i / 2 * 2 * kLanes + i % 2] = round_bf16(key[i]);
  bf16* values = layer.values + cache_place(d, row, kv_head) + static_cast<int64_t>(position) * d.head;
  for (int i = 0; i < d.head; i += kLanes) narrow16(values + i, load16(value + i));
}

// Scores of 16 keys in each of N blocks; a key's sum runs in one order whatever N is.
template <int N>
void score(const bf16* keys, const Prepared* query, int head, Floats* sums) {
  Register own[N][kParts];
  for (int n = 0; n < N; ++n)
    for (int part = 0; part < kParts; ++part) own[n][part] = zero();
  for (int pair = 0; pair < head / 2; ++pair) {
    const Input x = input(query + 2 * pair);
    for (int n = 0; n < N; ++n) {
      const bf16* place = keys + static_cast<int64_t>(n) * head * kLanes + pair * 2 * kLanes;
      for (int part = 0; part < kParts; ++part)
        own[n][part] = add_products(own[n][part], pairs(place + part * 2 * kWidth), x);
    }
  }
  for (int n = 0; n < N; ++n)
    for (int part = 0; part < kParts; ++part) sums[n].part[part] = own[n][part];
}

// N times 16 columns of the values, weighted and summed over keys first..last.
template <int N>
void mix(const bf16* values, const float* weights, int first, int last, int head, float scale,
         bf16* out) {
  Floats sums[N];
  for (int n = 0; n < N; ++n) sums[n] = all(0.f);
  for (int j = first; j <= last; ++j) {
    const Floats weight = all(weights[j]);
    const bf16* place = values + static_cast<int64_t>(j) * head;
    for (int n = 0; n < N; ++n)
      sums[n] = multiply_add(weight, widen16(place + n * kLanes), sums[n]);
  }
  for (int n = 0; n < N; ++n) narrow16(out + n * kLanes, sums[n] * all(scale));
}

// softmax(q K scale) V of one query head over the keys that it sees.
void attend(const Decoder& d, const Layer& layer, int row, int position, int kv_head, float* query,
            Scratch& scratch, bf16* out) {
  rotate(d, layer.query_norm, position, query);
  bf16* rounded = scratch.query.data();
  float* scores = scratch.scores.data();
  for (int i = 0; i < d.head; i += kLanes) narrow16(rounded + i, load16(query + i));
  const Prepared* ready = prepare(rounded, d.head, scratch.ready);
  const bf16* keys = layer.keys + cache_place(d, row, kv_head);
  const bf16* values = layer.values + cache_place(d, row, kv_head);
  const int first = layer.window && position >= layer.window ? position - layer.window + 1 : 0;
  const int blocks = position / kLanes + 1, first_block = first / kLanes;
  const Floats scale = all(d.scale), hidden = all(-1e30f);
  Floats most = hidden, sums[kBlocks];
  for (int block = first_block; block < blocks;) {
    const int count = blocks - block < kBlocks ? 1 : kBlocks;
    const bf16* place = keys + static_cast<int64_t>(block) * d.head * kLanes;
    count == 1 ? score<1>(place, ready, d.head, sums) : score<kBlocks>(place, ready, d.head, sums);
    for (int n = 0; n < count; ++n, ++block) {
      const int start = block * kLanes;
      const Floats scaled = between16(first - start, position - start, sums[n] * scale, hidden);
      most = larger(most, scaled);
      store16(scores + start, scaled);
    }
  }
  const Floats highest = all(greatest(most));
  Floats whole = all(0.f);
  for (int start = first_block * kLanes; start < blocks * kLanes; start += kLanes) {
    const Floats weight = between16(first - start, position - start,
                                    exponential(load16(scores + start) - highest), all(0.f));
    whole = whole + weight;
    store16(scores + start, weight);
  }
  const float share_of_total = 1.f / total(whole);
  int i = 0;
  for (; i + 4 * kLanes <= d.head; i += 4 * kLanes)
    mix<4>(values + i, scores, first, position, d.head, share_of_total, out + i);
  for (; i < d.head; i += kLanes)
    mix<1>(values + i, scores, first, position, d.head, share_of_total, out + i);
}

// Every thread norms all tokens for itself, which saves a barrier and costs little.
void normalise(const Decoder& d, const float* weight, const Pass& pass, Scratch& scratch) {
  for (int t = 0; t < pass.tokens; ++t) {
    const int64_t place = static_cast<int64_t>(t) * d.hidden;
    rms_norm(pass.residual + place, weight, d.hidden, d.epsilon,
             [&](int i, const Floats& x) { narrow16(scratch.normed.data() + place + i, x); });
  }
}

void run_attention(const Decoder& d, const Layer& layer, const Pass& pass, Scratch& scratch) {
  const int width = (d.heads + 2 * d.kv_heads) * d.head, group = d.heads / d.kv_heads;
  const Range writes = share(pass.tokens * d.kv_heads);
  for (int i = writes.begin; i < writes.end; ++i) {
    const int t = i / d.kv_heads;
    remember(d, layer, pass.rows[t], pass.positions[t], i % d.kv_heads,
             pass.projected + static_cast<int64_t>(t) * width);
  }
  scratch.others.wait();
  const Range reads = share(pass.tokens * d.heads);
  for (int i = reads.begin; i < reads.end; ++i) {
    const int t = i / d.heads, head = i % d.heads;
    attend(d, layer, pass.rows[t], pass.positions[t], head / group,
           pass.projected + static_cast<int64_t>(t) * width + head * d.head, scratch,
           pass.mixed + (static_cast<int64_t>(t) * d.heads + head) * d.head);
  }
  scratch.others.wait();
}

// `after` is what this thread multiplies by after the layer, or null.
void run_layer(const Decoder& d, const Layer& layer, const Pass& pass, const char* after,
               Scratch& scratch) {
  const int width = (d.heads + 2 * d.kv_heads) * d.head;
  const auto add_residual = [&](int token, int column, const Floats* sums) {
    float* place = pass.residual + static_cast<int64_t>(token) * d.hidden + column;
    for (int half = 0; half < 2 && column + half * kLanes < d.hidden; ++half, place += kLanes)
      store16(place, load16(place) + sums[half]);
  };
  normalise(d, layer.input_norm, pass, scratch);
  linear(layer.qkv, width, d.hidden, scratch.normed.data(), pass.tokens,
         own_part(layer.out, d.hidden, d.heads * d.head),
         [&](int token, int column, const Floats* sums) {
           float* place = pass.projected + static_cast<int64_t>(token) * width + column;
           for (int half = 0; half < 2 && column + half * kLanes < width; ++half) {
             Floats sum = sums[half];
             if (layer.qkv_bias) sum = sum + load16(layer.qkv_bias + column + half * kLanes);
             store16(place + half * kLanes, sum);
           }
         });
  scratch.others.wait();
  run_attention(d, layer, pass, scratch);
  linear(layer.out, d.hidden, d.heads * d.head, pass.mixed, pass.tokens,
         own_part(layer.gate_up, 2 * d.intermediate, d.hidden), add_residual);
  scratch.others.wait();
  normalise(d, layer.mlp_norm, pass, scratch);
  linear(layer.gate_up, 2 * d.intermediate, d.hidden, scratch.normed.data(), pass.tokens,
         own_part(layer.down, d.hidden, d.intermediate),
         [&](int token, int column, const Floats* sums) {
           narrow16(pass.inner + static_cast<int64_t>(token) * d.intermediate + column / 2,
                    silu(sums[0]) * sums[1]);
         });
  scratch.others.wait();
  linear(layer.down, d.hidden, d.intermediate, pass.inner, pass.tokens, after, add_residual);
  scratch.others.wait();
}

}  // namespace

namespace {

void run_layers(const Decoder& d, const Pass& pass, Scratch& scratch) {
  int kept = 0;
  const Range mine = share(pass.tokens);
  const auto state = [&](int place, int token, int i, const Floats& x) {
    const int64_t row = static_cast<int64_t>(token) * (pass.kept + 1) + place;
    narrow16(pass.states + row * d.hidden + i, x);
  };
  for (int l = 0; l < d.layers; ++l) {
    if (kept < pass.kept && pass.keep[kept] == l) {
      ++kept;
      for (int t = mine.begin; t < mine.end; ++t)
        for (int i = 0; i < d.hidden; i += kLanes)
          state(kept, t, i, load16(pass.residual + static_cast<int64_t>(t) * d.hidden + i));
      scratch.others.wait();
    }
    const int width = (d.heads + 2 * d.kv_heads) * d.head;
    const bool last = l + 1 == d.layers;
    const char* after = last ? nullptr : own_part(d.layer[l + 1].qkv, width, d.hidden);
    run_layer(d, d.layer[l], pass, after, scratch);
  }
  for (int t = mine.begin; t < mine.end; ++t)
    rms_norm(pass.residual + static_cast<int64_t>(t) * d.hidden, d.final_norm, d.hidden, d.epsilon,
             [&](int i, const Floats& x) { state(0, t, i, x); });
}

Scratch make_scratch(const Decoder& d, int tokens, Meeting& others) {
  Scratch scratch{others};
  scratch.normed.resize(static_cast<int64_t>(tokens) * 2 * d.hidden);
  scratch.query.resize(d.head);
  scratch.scores.resize(d.length);
  return scratch;
}

struct Best {
  float logit = -1e30f;
  int column = -1;
  float total = 0;  // of exp(logit - best logit) over a thread's columns

  void offer(const Best& other) {
    // The first of equals, as argmax has it.
    if (other.column >= 0 &&
        (column < 0 || other.logit > logit || (other.logit == logit && other.column < column)))
      *this = other;
  }
};

}  // namespace

extern "C" {

struct Drafting {
  int32_t steps, columns;
  Weight head;                // `columns` rows
  const int64_t* vocabulary;  // token of each column; null: the columns are the tokens
  const bf16* embeddings;     // [tokens][hidden]
  Weight fusion;              // reads a state and an embedding; null: the embedding is read
  const float *state_norm, *token_norm;  // of what is fused
  float epsilon;
  float least;          // below this chance of all its tokens a row's draft ends; 0: it does not
  const int32_t* ends;  // [rows], each row's last token among those that begin
  int32_t* counts;      // [rows], tokens that the drafts keep
  int64_t* drafted;     // [steps][rows]
};

void run_pass(const Decoder* decoder, const Pass* pass) {
  Meeting others;
#pragma omp parallel num_threads(pass->threads)
  {
    Scratch scratch = make_scratch(*decoder, pass->tokens, others);
    run_layers(*decoder, *pass, scratch);
    others.wait();
  }
}

}  // extern "C"

namespace {

// Puts what the decoder reads of each row's newest token into the residual; a fused one reads the
// state before it, too, which `pass` holds.
void read_drafted(const Decoder& d, const Drafting& draft, const Pass& pass, const int64_t* tokens,
                  Scratch& scratch) {
  if (!draft.fusion.data) {
    const Range mine = share(pass.tokens);
    for (int t = mine.begin; t < mine.end; ++t)
      for (int i = 0; i < d.hidden; i += kLanes)
        store16(pass.residual + static_cast<int64_t>(t) * d.hidden + i,
                widen16(draft.embeddings + tokens[t] * d.hidden + i));
    return;
  }
  std::vector<float> wide(d.hidden);
  for (int t = 0; t < pass.tokens; ++t) {
    bf16* both = scratch.normed.data() + static_cast<int64_t>(t) * 2 * d.hidden;
    const bf16* sources[] = {pass.states + static_cast<int64_t>(t) * d.hidden,
                           draft.embeddings + tokens[t] * d.hidden};
    const float* norms[] = {draft.state_norm, draft.token_norm};
    for (int part = 0; part < 2; ++part, both += d.hidden) {
      for (int i = 0; i < d.hidden; i += kLanes)
        store16(wide.data() + i, widen16(sources[part] + i));
      rms_norm(wide.data(), norms[part], d.hidden, draft.epsilon,
               [&](int i, const Floats& x) { narrow16(both + i, x); });
    }
  }
  linear(draft.fusion, d.hidden, 2 * d.hidden, scratch.normed.data(), pass.tokens, nullptr,
         [&](int token, int column, const Floats* sums) {
           float* place = pass.residual + static_cast<int64_t>(token) * d.hidden + column;
           for (int half = 0; half < 2 && column + half * kLanes < d.hidden; ++half)
             store16(place + half * kLanes, sums[half]);
         });
}

}  // namespace

extern "C" {

// Runs `begin`, tokens that the rows lack, then drafts each row's most likely tokens, one after the
// other: one token per row in `given`, whose positions move along. Returns the tokens drafted, fewer
// than asked for when every row's draft has ended; the last of them is not in the cache.
int32_t run_drafts(const Decoder* decoder, const Pass* begin, const Pass* given,
                   const Drafting* wanted, int32_t* positions) {
  const Decoder& d = *decoder;
  const Pass& pass = *given;
  const Drafting& draft = *wanted;
  std::vector<Best> bests(static_cast<int64_t>(pass.threads) * pass.tokens);
  const int64_t width = static_cast<int64_t>((draft.columns + kGroup - 1) / kGroup) * kGroup;
  std::vector<float> logits(draft.least > 0 ? pass.tokens * width : 0);
  std::vector<float> chances(pass.tokens, 1.f);
  int32_t ran = 0;
  bool going = true;
  Meeting others;
#pragma omp parallel num_threads(pass.threads)
  {
    Scratch scratch = make_scratch(d, std::max(begin->tokens, pass.tokens), others);
    Best* own = bests.data() + static_cast<int64_t>(omp_get_thread_num()) * pass.tokens;
    for (int step = 0; step < draft.steps; ++step) {
      if (step == 0) {
        run_layers(d, *begin, scratch);
        scratch.others.wait();
        const Range mine = share(pass.tokens);
        for (int t = mine.begin; t < mine.end; ++t)
          std::memcpy(pass.states + static_cast<int64_t>(t) * d.hidden,
                      begin->states + static_cast<int64_t>(draft.ends[t]) * d.hidden,
                      d.hidden * sizeof(bf16));
      } else {
        read_drafted(d, draft, pass, draft.drafted + static_cast<int64_t>(step - 1) * pass.tokens,
                     scratch);
        scratch.others.wait();
        run_layers(d, pass, scratch);
      }
      for (int t = 0; t < pass.tokens; ++t) own[t] = Best();
      scratch.others.wait();
      linear(draft.head, draft.columns, d.hidden, pass.states, pass.tokens, nullptr,
             [&](int token, int column, const Floats* sums) {
               float values[kGroup];
               float* place = draft.least > 0 ? logits.data() + token * width + column : values;
               store16(place, sums[0]);
               store16(place + kLanes, sums[1]);
               for (int i = 0; i < kGroup; ++i)
                 if (column + i >= draft.columns)
                   place[i] = -1e30f;
                 else if (place[i] > own[token].logit || own[token].column < 0)
                   own[token].logit = place[i], own[token].column = column + i;
             });
      if (draft.least > 0) {
        const Range groups = share((draft.columns + kGroup - 1) / kGroup);
        for (int t = 0; t < pass.tokens; ++t) {
          Floats whole = all(0.f);
          for (int i = groups.begin * kGroup; i < groups.end * kGroup; i += kLanes)
            whole = whole + exponential(load16(logits.data() + t * width + i) - all(own[t].logit));
          own[t].total = total(whole);
        }
      }
      scratch.others.wait();
      if (omp_get_thread_num() == 0) {
        going = false;
        for (int t = 0; t < pass.tokens; ++t) {
          Best best;
          const int threads = omp_get_num_threads();
          for (int thread = 0; thread < threads; ++thread)
            best.offer(bests[static_cast<int64_t>(thread) * pass.tokens + t]);
          float total = 0;
          for (int thread = 0; draft.least > 0 && thread < threads; ++thread) {
            const Best& part = bests[static_cast<int64_t>(thread) * pass.tokens + t];
            total += part.total * std::exp(part.logit - best.logit);
          }
          if (draft.least > 0) chances[t] /= total;
          const bool goes_on = draft.counts[t] == step && chances[t] >= draft.least;
          draft.counts[t] += goes_on;
          going = going || goes_on;
          const int64_t token = draft.vocabulary ? draft.vocabulary[best.column] : best.column;
          draft.drafted[static_cast<int64_t>(step) * pass.tokens + t] = token;
          if (step > 0) ++positions[t];
        }
        ++ran;
      }
      scratch.others.wait();
      if (!going) break;
    }
  }
  return ran;
}

}  // extern "C"
