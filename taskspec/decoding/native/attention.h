// Attention over a cache whose rows have lengths of their own.

#pragma once

#include <algorithm>

#include "decoder.h"

namespace {

constexpr int kBlocks = 4;     // blocks of 16 keys scored together
constexpr int kStretch = 128;  // keys of a stretch; with 128 bytes each they stay in the cache

bf16 round_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<bf16>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

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

// Adds the values of keys first..last, weighted, to N times 16 columns of sums.
template <int N>
void mix(const bf16* values, const float* weights, int first, int last, int head, float* into) {
  Floats sums[N];
  for (int n = 0; n < N; ++n) sums[n] = load16(into + n * kLanes);
  for (int j = first; j <= last; ++j) {
    const Floats weight = all(weights[j]);
    const bf16* place = values + static_cast<int64_t>(j) * head;
    for (int n = 0; n < N; ++n)
      sums[n] = multiply_add(weight, widen16(place + n * kLanes), sums[n]);
  }
  for (int n = 0; n < N; ++n) store16(into + n * kLanes, sums[n]);
}

// One head of a token: which keys it sees, and where it has room.
struct Query {
  int token, head, first, position;
  const Prepared* ready;
  float *scores, *mixed;
  Floats highest;
  float share_of_total;
};

// A query of a pass, rotated and prepared in its part of the scratch.
Query make_query(const Decoder& d, const Layer& layer, const Pass& pass, int token, int head,
                 int number, Scratch& scratch) {
  const int width = (d.heads + 2 * d.kv_heads) * d.head, position = pass.positions[token];
  float* values = pass.projected + static_cast<int64_t>(token) * width + head * d.head;
  rotate(d, layer.query_norm, position, values);
  Prepared* ready = scratch.queries.data() + number * d.head;
  for (int i = 0; i < d.head; i += kLanes) prepare16(ready + i, load16(values + i));
  float* mixed = scratch.mixed.data() + number * d.head;
  std::fill(mixed, mixed + d.head, 0.f);
  const int first = layer.window && position >= layer.window ? position - layer.window + 1 : 0;
  float* scores = scratch.scores.get() + static_cast<int64_t>(number) * d.length;
  return {token, head, first, position, ready, scores, mixed, all(-1e30f), 0.f};
}

// What is to come from memory while blocks of 16 keys are computed with: so many bytes with each.
struct Ahead {
  const char* place;
  int bytes;

  void fetch(int blocks) {
    for (int line = 0; line < blocks * bytes; line += kLine) __builtin_prefetch(place + line, 0, 2);
    place += blocks * bytes;
  }
};

// A query's part of what there is of the stretch after the one at `from`; keys or values end at `end`.
Ahead ahead(const Decoder& d, const bf16* stored, int from, int end, int number, int count) {
  const int next = from + kStretch, keys = std::clamp(end - next, 0, kStretch);
  const int lines = keys * d.head * static_cast<int>(sizeof(bf16)) / kLine;
  const int parts = count * (kStretch / kLanes), bytes = (lines + parts - 1) / parts * kLine;
  const bf16* place = stored + static_cast<int64_t>(next) * d.head;
  return {reinterpret_cast<const char*>(place) + number * bytes * (kStretch / kLanes), bytes};
}

// Scores of the keys in from..to - 1, whole blocks, that a query sees.
void score_stretch(const Decoder& d, const bf16* keys, int from, int to, Ahead ahead,
                   Query& query) {
  const Floats scale = all(d.scale), hidden = all(-1e30f);
  Floats sums[kBlocks];
  const int end = std::min(to / kLanes, query.position / kLanes + 1);
  for (int block = std::max(from, query.first) / kLanes; block < end;) {
    const int count = end - block < kBlocks ? 1 : kBlocks;
    const bf16* place = keys + static_cast<int64_t>(block) * d.head * kLanes;
    ahead.fetch(count);
    count == 1 ? score<1>(place, query.ready, d.head, sums)
               : score<kBlocks>(place, query.ready, d.head, sums);
    for (int n = 0; n < count; ++n, ++block) {
      const int start = block * kLanes;
      const Floats scaled =
          between16(query.first - start, query.position - start, sums[n] * scale, hidden);
      query.highest = larger(query.highest, scaled);
      store16(query.scores + start, scaled);
    }
  }
}

// Scores to weights that are not divided by their total yet.
void weigh(Query& query) {
  const Floats highest = all(greatest(query.highest));
  Floats whole = all(0.f);
  for (int start = query.first / kLanes * kLanes; start <= query.position; start += kLanes) {
    const Floats weight =
        between16(query.first - start, query.position - start,
                  exponential(load16(query.scores + start) - highest), all(0.f));
    whole = whole + weight;
    store16(query.scores + start, weight);
  }
  query.share_of_total = 1.f / total(whole);
}

// Adds the weighted values of the keys in from..to - 1 that a query sees.
void mix_stretch(const Decoder& d, const bf16* values, int from, int to, Ahead ahead,
                 const Query& query) {
  const int end = std::min(to, query.position + 1);
  for (int first = std::max(from, query.first); first < end;) {
    const int last = std::min((first / kLanes + kBlocks) * kLanes, end) - 1;
    ahead.fetch(kBlocks);
    int i = 0;
    for (; i + 4 * kLanes <= d.head; i += 4 * kLanes)
      mix<4>(values + i, query.scores, first, last, d.head, query.mixed + i);
    for (; i < d.head; i += kLanes)
      mix<1>(values + i, query.scores, first, last, d.head, query.mixed + i);
    first = last + 1;
  }
}

// softmax(q K scale) V of queries of one row and key head. Long texts' keys and values do not stay
// in the cache from query to query, so all queries read one stretch before any reads the next,
// which comes from memory meanwhile.
void attend(const Decoder& d, const Layer& layer, const Pass& pass, Query* queries, int count) {
  const int row = pass.rows[queries->token], kv_head = queries->head / (d.heads / d.kv_heads);
  const bf16* keys = layer.keys + cache_place(d, row, kv_head);
  const bf16* values = layer.values + cache_place(d, row, kv_head);
  int first = queries->first, end = queries->position + 1;
  for (int n = 1; n < count; ++n) {
    first = std::min(first, queries[n].first);
    end = std::max(end, queries[n].position + 1);
  }
  first = first / kStretch * kStretch;
  for (int from = first; from < end; from += kStretch)
    for (int n = 0; n < count; ++n)
      score_stretch(d, keys, from, from + kStretch, ahead(d, keys, from, end, n, count), queries[n]);
  for (int n = 0; n < count; ++n) weigh(queries[n]);
  for (int from = first; from < end; from += kStretch)
    for (int n = 0; n < count; ++n)
      mix_stretch(d, values, from, from + kStretch, ahead(d, values, from, end, n, count), queries[n]);
  for (int n = 0; n < count; ++n) {
    const Query& query = queries[n];
    bf16* out = pass.mixed + (static_cast<int64_t>(query.token) * d.heads + query.head) * d.head;
    for (int i = 0; i < d.head; i += kLanes)
      narrow16(out + i, load16(query.mixed + i) * all(query.share_of_total));
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
  // Queries in order of the key head, then of the token: those that read the same keys are neighbours.
  const Range reads = share(pass.tokens * d.heads);
  Query queries[kQueries];
  for (int i = reads.begin, count = 0; i < reads.end; ++i) {
    const int kv_head = i / (pass.tokens * group), place = i % (pass.tokens * group);
    const int t = place / group, head = kv_head * group + place % group;
    queries[count] = make_query(d, layer, pass, t, head, count, scratch);
    ++count;
    const bool more = i + 1 < reads.end && (i + 1) / (pass.tokens * group) == kv_head &&
                      pass.rows[(i + 1) % (pass.tokens * group) / group] == pass.rows[t];
    if (more && count < kQueries) continue;
    attend(d, layer, pass, queries, count);
    count = 0;
  }
  scratch.others.wait();
}

}  // namespace
