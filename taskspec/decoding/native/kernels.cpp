// A decoder's pass over a few tokens, in bf16 with float32 sums, for CPUs with AVX-512 BF16 or AVX2.
//
// Every sum runs in one order, whatever the number of tokens, rows or threads, so a token's
// result does not depend on what else is in the pass. Tensors are contiguous; `tokens` of a pass
// lie one after the other, each with the cache row it belongs to and its position in it.

#include <cmath>

#include "attention.h"

extern "C" {

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

Floats silu(const Floats& x) { return x / (all(1.f) + exponential(all(0.f) - x)); }

// Every thread norms all tokens for itself, which saves a barrier and costs little.
void normalise(const Decoder& d, const float* weight, const Pass& pass, Scratch& scratch) {
  for (int t = 0; t < pass.tokens; ++t) {
    const int64_t place = static_cast<int64_t>(t) * d.hidden;
    rms_norm(pass.residual + place, weight, d.hidden, d.epsilon,
             [&](int i, const Floats& x) { narrow16(scratch.normed.data() + place + i, x); });
  }
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
    Scratch scratch(*decoder, pass->tokens, others);
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
    Scratch scratch(d, std::max(begin->tokens, pass.tokens), others);
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
