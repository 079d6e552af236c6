// A decoder's pass over a few tokens, in bf16 with float32 sums, for CPUs with AVX-512 BF16.
//
// Every sum runs in one order, whatever the number of tokens, rows or threads, so a token's
// result does not depend on what else is in the pass. Tensors are contiguous; `tokens` of a pass
// lie one after the other, each with the cache row it belongs to and its position in it.

#include <immintrin.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

using bf16 = uint16_t;

constexpr int kLanes = 16;         // float32 values of a register
constexpr int kGroup = 2 * kLanes;  // output columns computed together
constexpr int kTile = 8;           // tokens computed together
constexpr int kBlocks = 4;         // blocks of 16 keys scored together

bf16 round_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<bf16>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

__m512 widen(const bf16* values) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)values));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

void narrow(bf16* out, __m512 values) {
  _mm256_storeu_si256((__m256i*)out, (__m256i)_mm512_cvtneps_pbh(values));
}

// Cephes' expf: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2].
__m512 exponential(__m512 x) {
  x = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-87.f)), _mm512_set1_ps(88.f));
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
  x = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  x = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), x);
  const float coefficients[] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f,
                                1.6666665459e-1f, 5.0000001201e-1f};
  __m512 y = _mm512_set1_ps(1.9875691500e-4f);
  for (float c : coefficients) y = _mm512_fmadd_ps(y, x, _mm512_set1_ps(c));
  y = _mm512_add_ps(_mm512_fmadd_ps(y, _mm512_mul_ps(x, x), x), _mm512_set1_ps(1.f));
  return _mm512_scalef_ps(y, n);
}

__m512 silu(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.f);
  const __m512 minus = _mm512_sub_ps(_mm512_setzero_ps(), x);
  return _mm512_div_ps(x, _mm512_add_ps(one, exponential(minus)));
}

// out = values * weight / rms(values); float32 sums, as transformers computes it.
template <typename Store>
void rms_norm(const float* values, const float* weight, int size, float epsilon, Store store) {
  __m512 squares = _mm512_setzero_ps();
  for (int i = 0; i < size; i += kLanes) {
    const __m512 x = _mm512_loadu_ps(values + i);
    squares = _mm512_fmadd_ps(x, x, squares);
  }
  const float scale = 1.f / std::sqrt(_mm512_reduce_add_ps(squares) / size + epsilon);
  for (int i = 0; i < size; i += kLanes) {
    const __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(values + i), _mm512_set1_ps(scale));
    store(i, _mm512_mul_ps(scaled, _mm512_loadu_ps(weight + i)));
  }
}

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

// The bf16 of 128 + byte, for 32 bytes below 128: they fill a bf16's 7 bits of mantissa.
__m512bh shifted(const uint8_t* bytes) {
  const __m512i wide = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i*)bytes));
  return (__m512bh)_mm512_or_si512(wide, _mm512_set1_epi16(0x4300));
}

// M tokens times the 32 columns of a group: one stream of the weights, sums in registers.
template <int M, typename Stored>
void multiply(const void* weights, const bf16* inputs, int in, __m512 (&sums)[kTile][2]) {
  const Stored* group = static_cast<const Stored*>(weights);
  __m512 first[M], second[M];
  for (int m = 0; m < M; ++m) first[m] = second[m] = _mm512_setzero_ps();
  for (int pair = 0; pair < in / 2; ++pair, group += 2 * kGroup) {
    __m512bh left, right;
    if constexpr (sizeof(Stored) == 1) {
      left = shifted(group), right = shifted(group + kGroup);
    } else {
      left = (__m512bh)_mm512_loadu_si512(group);
      right = (__m512bh)_mm512_loadu_si512(group + kGroup);
    }
    for (int m = 0; m < M; ++m) {
      int both;
      std::memcpy(&both, inputs + static_cast<int64_t>(m) * in + 2 * pair, sizeof both);
      const __m512bh x = (__m512bh)_mm512_set1_epi32(both);
      first[m] = _mm512_dpbf16_ps(first[m], left, x);
      second[m] = _mm512_dpbf16_ps(second[m], right, x);
    }
  }
  for (int m = 0; m < M; ++m) sums[m][0] = first[m], sums[m][1] = second[m];
}

using Multiply = void (*)(const void*, const bf16*, int, __m512 (&)[kTile][2]);
template <typename Stored>
constexpr Multiply kMultiply[] = {
    nullptr,
    multiply<1, Stored>,
    multiply<2, Stored>,
    multiply<3, Stored>,
    multiply<4, Stored>,
    multiply<5, Stored>,
    multiply<6, Stored>,
    multiply<7, Stored>,
    multiply<8, Stored>};

float sum_of(const bf16* values, int size) {
  __m512 sum = _mm512_setzero_ps();
  for (int i = 0; i < size; i += kLanes) {
    const __mmask16 mask = size - i >= kLanes ? 0xffff : (1 << (size - i)) - 1;
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, values + i));
    sum = _mm512_add_ps(sum, _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16)));
  }
  return _mm512_reduce_add_ps(sum);
}

// This thread's share of the output columns of a weight, for every token: store(token, first
// column, 32 sums).
template <typename Store>
void linear(const Weight& weight, int out, int in, const bf16* inputs, int tokens, Store store) {
  const Range groups = share((out + kGroup - 1) / kGroup);
  const bool bytes = weight.scales != nullptr;
  const Multiply* products = bytes ? kMultiply<uint8_t> : kMultiply<bf16>;
  const int64_t size = static_cast<int64_t>(in) * kGroup * (bytes ? sizeof(uint8_t) : sizeof(bf16));
  std::vector<float> excess(bytes ? tokens : 0);
  for (int t = 0; t < static_cast<int>(excess.size()); ++t)
    excess[t] = (128 + kZero) * sum_of(inputs + static_cast<int64_t>(t) * in, in);
  __m512 sums[kTile][2];
  for (int g = groups.begin; g < groups.end; ++g) {
    const void* group = static_cast<const char*>(weight.data) + g * size;
    for (int from = 0; from < tokens; from += kTile) {
      const int count = tokens - from < kTile ? tokens - from : kTile;
      products[count](group, inputs + static_cast<int64_t>(from) * in, in, sums);
      for (int m = 0; m < count; ++m) {
        for (int half = 0; bytes && half < 2; ++half) {
          const __m512 scale = _mm512_loadu_ps(weight.scales + g * kGroup + half * kLanes);
          const __m512 whole = _mm512_sub_ps(sums[m][half], _mm512_set1_ps(excess[from + m]));
          sums[m][half] = _mm512_mul_ps(whole, scale);
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
  linear(*weight, out, in, inputs, tokens, [&](int token, int column, const __m512* sums) {
    float* place = outputs + static_cast<int64_t>(token) * out + column;
    for (int half = 0; half < 2; ++half) {
      const int left = out - column - half * kLanes;
      if (left <= 0) break;
      const __mmask16 mask = left >= kLanes ? 0xffff : (1 << left) - 1;
      __m512 sum = sums[half];
      if (bias) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, bias + column + half * kLanes));
      _mm512_mask_storeu_ps(place + half * kLanes, mask, sum);
    }
  });
}

}  // extern "C"

namespace {

struct Scratch {  // of one thread
  std::vector<bf16> normed, query;
  std::vector<float> scores;
};

// Rotary embedding (rotate-half) of one head, after its norm where there is one.
void rotate(const Decoder& d, const float* weight, int position, float* values) {
  if (weight)
    rms_norm(values, weight, d.head, d.epsilon,
             [&](int i, __m512 x) { _mm512_storeu_ps(values + i, x); });
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
  for (int i = 0; i < d.head; i += kLanes) narrow(values + i, _mm512_loadu_ps(value + i));
}

// Scores of 16 keys in each of N blocks; a key's sum runs in one order whatever N is.
template <int N>
void score(const bf16* keys, const bf16* query, int head, __m512* sums) {
  for (int n = 0; n < N; ++n) sums[n] = _mm512_setzero_ps();
  for (int pair = 0; pair < head / 2; ++pair) {
    int both;
    std::memcpy(&both, query + 2 * pair, sizeof both);
    const __m512bh x = (__m512bh)_mm512_set1_epi32(both);
    for (int n = 0; n < N; ++n) {
      const bf16* place = keys + static_cast<int64_t>(n) * head * kLanes + pair * 2 * kLanes;
      sums[n] = _mm512_dpbf16_ps(sums[n], (__m512bh)_mm512_loadu_si512(place), x);
    }
  }
}

// Columns of N registers of the values, weighted and summed over keys first..last.
template <int N>
void mix(const bf16* values, const float* weights, int first, int last, int head, __m512 scale,
         bf16* out) {
  __m512 sums[N];
  for (int n = 0; n < N; ++n) sums[n] = _mm512_setzero_ps();
  for (int j = first; j <= last; ++j) {
    const __m512 weight = _mm512_set1_ps(weights[j]);
    const bf16* place = values + static_cast<int64_t>(j) * head;
    for (int n = 0; n < N; ++n)
      sums[n] = _mm512_fmadd_ps(weight, widen(place + n * kLanes), sums[n]);
  }
  for (int n = 0; n < N; ++n) narrow(out + n * kLanes, _mm512_mul_ps(sums[n], scale));
}

// softmax(q K scale) V of one query head over the keys that it sees.
void attend(const Decoder& d, const Layer& layer, int row, int position, int kv_head, float* query,
            Scratch& scratch, bf16* out) {
  rotate(d, layer.query_norm, position, query);
  bf16* rounded = scratch.query.data();
  float* scores = scratch.scores.data();
  for (int i = 0; i < d.head; i += kLanes) narrow(rounded + i, _mm512_loadu_ps(query + i));
  const bf16* keys = layer.keys + cache_place(d, row, kv_head);
  const bf16* values = layer.values + cache_place(d, row, kv_head);
  const int first = layer.window && position >= layer.window ? position - layer.window + 1 : 0;
  const int blocks = position / kLanes + 1, first_block = first / kLanes;
  const __m512 scale = _mm512_set1_ps(d.scale), hidden = _mm512_set1_ps(-1e30f);
  const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  __m512 most = hidden, sums[kBlocks];
  for (int block = first_block; block < blocks;) {
    const int count = blocks - block < kBlocks ? 1 : kBlocks;
    const bf16* place = keys + static_cast<int64_t>(block) * d.head * kLanes;
    count == 1 ? score<1>(place, rounded, d.head, sums) : score<kBlocks>(place, rounded, d.head, sums);
    for (int n = 0; n < count; ++n, ++block) {
      const __m512i at = _mm512_add_epi32(lanes, _mm512_set1_epi32(block * kLanes));
      const __mmask16 seen = _mm512_cmple_epi32_mask(at, _mm512_set1_epi32(position)) &
                             _mm512_cmpge_epi32_mask(at, _mm512_set1_epi32(first));
      const __m512 scaled = _mm512_mask_mul_ps(hidden, seen, sums[n], scale);
      most = _mm512_max_ps(most, scaled);
      _mm512_storeu_ps(scores + block * kLanes, scaled);
    }
  }
  const __m512 highest = _mm512_set1_ps(_mm512_reduce_max_ps(most));
  __m512 total = _mm512_setzero_ps();
  for (int block = first_block; block < blocks; ++block) {
    float* place = scores + block * kLanes;
    const __m512 scaled = _mm512_loadu_ps(place);
    const __mmask16 seen = _mm512_cmp_ps_mask(scaled, hidden, _CMP_GT_OQ);
    const __m512 weight = _mm512_maskz_mov_ps(seen, exponential(_mm512_sub_ps(scaled, highest)));
    total = _mm512_add_ps(total, weight);
    _mm512_storeu_ps(place, weight);
  }
  const __m512 share_of_total = _mm512_set1_ps(1.f / _mm512_reduce_add_ps(total));
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
             [&](int i, __m512 x) { narrow(scratch.normed.data() + place + i, x); });
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
#pragma omp barrier
  const Range reads = share(pass.tokens * d.heads);
  for (int i = reads.begin; i < reads.end; ++i) {
    const int t = i / d.heads, head = i % d.heads;
    attend(d, layer, pass.rows[t], pass.positions[t], head / group,
           pass.projected + static_cast<int64_t>(t) * width + head * d.head, scratch,
           pass.mixed + (static_cast<int64_t>(t) * d.heads + head) * d.head);
  }
#pragma omp barrier
}

void run_layer(const Decoder& d, const Layer& layer, const Pass& pass, Scratch& scratch) {
  const int width = (d.heads + 2 * d.kv_heads) * d.head;
  const auto add = [&](int token, int column, const __m512* sums) {
    float* place = pass.residual + static_cast<int64_t>(token) * d.hidden + column;
    for (int half = 0; half < 2 && column + half * kLanes < d.hidden; ++half, place += kLanes)
      _mm512_storeu_ps(place, _mm512_add_ps(_mm512_loadu_ps(place), sums[half]));
  };
  normalise(d, layer.input_norm, pass, scratch);
  linear(layer.qkv, width, d.hidden, scratch.normed.data(), pass.tokens,
         [&](int token, int column, const __m512* sums) {
           float* place = pass.projected + static_cast<int64_t>(token) * width + column;
           for (int half = 0; half < 2 && column + half * kLanes < width; ++half) {
             __m512 sum = sums[half];
             if (layer.qkv_bias)
               sum = _mm512_add_ps(sum, _mm512_loadu_ps(layer.qkv_bias + column + half * kLanes));
             _mm512_storeu_ps(place + half * kLanes, sum);
           }
         });
#pragma omp barrier
  run_attention(d, layer, pass, scratch);
  linear(layer.out, d.hidden, d.heads * d.head, pass.mixed, pass.tokens, add);
#pragma omp barrier
  normalise(d, layer.mlp_norm, pass, scratch);
  linear(layer.gate_up, 2 * d.intermediate, d.hidden, scratch.normed.data(), pass.tokens,
         [&](int token, int column, const __m512* sums) {
           narrow(pass.inner + static_cast<int64_t>(token) * d.intermediate + column / 2,
                  _mm512_mul_ps(silu(sums[0]), sums[1]));
         });
#pragma omp barrier
  linear(layer.down, d.hidden, d.intermediate, pass.inner, pass.tokens, add);
#pragma omp barrier
}

}  // namespace

namespace {

void run_layers(const Decoder& d, const Pass& pass, Scratch& scratch) {
  int kept = 0;
  const Range mine = share(pass.tokens);
  const auto state = [&](int place, int token, int i, __m512 x) {
    const int64_t row = static_cast<int64_t>(token) * (pass.kept + 1) + place;
    narrow(pass.states + row * d.hidden + i, x);
  };
  for (int l = 0; l < d.layers; ++l) {
    if (kept < pass.kept && pass.keep[kept] == l) {
      ++kept;
      for (int t = mine.begin; t < mine.end; ++t)
        for (int i = 0; i < d.hidden; i += kLanes)
          state(kept, t, i, _mm512_loadu_ps(pass.residual + static_cast<int64_t>(t) * d.hidden + i));
#pragma omp barrier
    }
    run_layer(d, d.layer[l], pass, scratch);
  }
  for (int t = mine.begin; t < mine.end; ++t)
    rms_norm(pass.residual + static_cast<int64_t>(t) * d.hidden, d.final_norm, d.hidden, d.epsilon,
             [&](int i, __m512 x) { state(0, t, i, x); });
}

Scratch make_scratch(const Decoder& d, int tokens) {
  Scratch scratch;
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
#pragma omp parallel num_threads(pass->threads)
  {
    Scratch scratch = make_scratch(*decoder, pass->tokens);
    run_layers(*decoder, *pass, scratch);
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
        _mm512_storeu_ps(pass.residual + static_cast<int64_t>(t) * d.hidden + i,
                         widen(draft.embeddings + tokens[t] * d.hidden + i));
    return;
  }
  std::vector<float> wide(d.hidden);
  for (int t = 0; t < pass.tokens; ++t) {
    bf16* both = scratch.normed.data() + static_cast<int64_t>(t) * 2 * d.hidden;
    const bf16* parts[] = {pass.states + static_cast<int64_t>(t) * d.hidden,
                           draft.embeddings + tokens[t] * d.hidden};
    const float* norms[] = {draft.state_norm, draft.token_norm};
    for (int part = 0; part < 2; ++part, both += d.hidden) {
      for (int i = 0; i < d.hidden; i += kLanes)
        _mm512_storeu_ps(wide.data() + i, widen(parts[part] + i));
      rms_norm(wide.data(), norms[part], d.hidden, draft.epsilon,
               [&](int i, __m512 x) { narrow(both + i, x); });
    }
  }
  linear(draft.fusion, d.hidden, 2 * d.hidden, scratch.normed.data(), pass.tokens,
         [&](int token, int column, const __m512* sums) {
           float* place = pass.residual + static_cast<int64_t>(token) * d.hidden + column;
           for (int half = 0; half < 2 && column + half * kLanes < d.hidden; ++half)
             _mm512_storeu_ps(place + half * kLanes, sums[half]);
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
#pragma omp parallel num_threads(pass.threads)
  {
    Scratch scratch = make_scratch(d, std::max(begin->tokens, pass.tokens));
    Best* own = bests.data() + static_cast<int64_t>(omp_get_thread_num()) * pass.tokens;
    for (int step = 0; step < draft.steps; ++step) {
      if (step == 0) {
        run_layers(d, *begin, scratch);
#pragma omp barrier
        const Range mine = share(pass.tokens);
        for (int t = mine.begin; t < mine.end; ++t)
          std::memcpy(pass.states + static_cast<int64_t>(t) * d.hidden,
                      begin->states + static_cast<int64_t>(draft.ends[t]) * d.hidden,
                      d.hidden * sizeof(bf16));
      } else {
        read_drafted(d, draft, pass, draft.drafted + static_cast<int64_t>(step - 1) * pass.tokens,
                     scratch);
#pragma omp barrier
        run_layers(d, pass, scratch);
      }
      for (int t = 0; t < pass.tokens; ++t) own[t] = Best();
#pragma omp barrier
      linear(draft.head, draft.columns, d.hidden, pass.states, pass.tokens,
             [&](int token, int column, const __m512* sums) {
               float values[kGroup];
               float* place = draft.least > 0 ? logits.data() + token * width + column : values;
               _mm512_storeu_ps(place, sums[0]);
               _mm512_storeu_ps(place + kLanes, sums[1]);
               for (int i = 0; i < kGroup; ++i)
                 if (column + i >= draft.columns)
                   place[i] = -1e30f;
                 else if (place[i] > own[token].logit || own[token].column < 0)
                   own[token].logit = place[i], own[token].column = column + i;
             });
      if (draft.least > 0) {
        const Range groups = share((draft.columns + kGroup - 1) / kGroup);
        for (int t = 0; t < pass.tokens; ++t) {
          __m512 total = _mm512_setzero_ps();
          for (int i = groups.begin * kGroup; i < groups.end * kGroup; i += kLanes) {
            const __m512 logit = _mm512_loadu_ps(logits.data() + t * width + i);
            total = _mm512_add_ps(
                total, exponential(_mm512_sub_ps(logit, _mm512_set1_ps(own[t].logit))));
          }
          own[t].total = _mm512_reduce_add_ps(total);
        }
      }
#pragma omp barrier
#pragma omp single
      {
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
      if (!going) break;
    }
  }
  return ran;
}

}  // extern "C"
