// Sixteen float32 values at a time, and products of bf16 pairs, in the instructions of AVX-512 BF16
// or of AVX2 with FMA. What is computed with them runs in one order on either; the two may round
// differently.

#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace {

using bf16 = uint16_t;

constexpr int kLanes = 16;

#if defined(__AVX512BF16__)

constexpr const char* kInstructions = "AVX-512 BF16";
constexpr int kWidth = 16;  // lanes of a register
using Register = __m512;
using Pairs = __m512bh;   // two bf16 a lane
using Input = __m512bh;   // the same two values in every lane
using Prepared = bf16;    // what inputs are read from

Register zero() { return _mm512_setzero_ps(); }
Register spread(float value) { return _mm512_set1_ps(value); }
Register load(const float* from) { return _mm512_loadu_ps(from); }
void store(float* to, Register x) { _mm512_storeu_ps(to, x); }
Register add(Register a, Register b) { return _mm512_add_ps(a, b); }
Register subtract(Register a, Register b) { return _mm512_sub_ps(a, b); }
Register multiply(Register a, Register b) { return _mm512_mul_ps(a, b); }
Register divide(Register a, Register b) { return _mm512_div_ps(a, b); }
Register larger(Register a, Register b) { return _mm512_max_ps(a, b); }
Register smaller(Register a, Register b) { return _mm512_min_ps(a, b); }
Register multiply_add(Register a, Register b, Register c) { return _mm512_fmadd_ps(a, b, c); }
Register subtract_product(Register a, Register b, Register c) { return _mm512_fnmadd_ps(a, b, c); }
Register nearest(Register x) { return _mm512_roundscale_ps(x, 0); }
Register times_power(Register x, Register n) { return _mm512_scalef_ps(x, n); }
float total(Register x) { return _mm512_reduce_add_ps(x); }
float greatest(Register x) { return _mm512_reduce_max_ps(x); }

// Lanes first..last of `inside`, the others of `outside`.
Register between(int first, int last, Register inside, Register outside) {
  const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __mmask16 in = _mm512_cmpge_epi32_mask(lanes, _mm512_set1_epi32(first)) &
                       _mm512_cmple_epi32_mask(lanes, _mm512_set1_epi32(last));
  return _mm512_mask_blend_ps(in, outside, inside);
}

Register widen(const bf16* from) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)from));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

void narrow(bf16* to, Register x) {
  _mm256_storeu_si256((__m256i*)to, (__m256i)_mm512_cvtneps_pbh(x));
}

Pairs pairs(const bf16* from) { return (Pairs)_mm512_loadu_si512(from); }

// Of 128 + byte, for bytes below 128: they fill a bf16's 7 bits of mantissa.
Pairs pairs(const uint8_t* from) {
  const __m512i wide = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i*)from));
  return (Pairs)_mm512_or_si512(wide, _mm512_set1_epi16(0x4300));
}

Input input(const Prepared* two) {
  int both;
  std::memcpy(&both, two, sizeof both);
  return (Input)_mm512_set1_epi32(both);
}

Register add_products(Register sum, Pairs weights, Input x) {
  return _mm512_dpbf16_ps(sum, weights, x);
}

#elif defined(__AVX2__) && defined(__FMA__)

constexpr const char* kInstructions = "AVX2";
constexpr int kWidth = 8;
using Register = __m256;
struct Pairs {
  Register even, odd;
};
using Input = Pairs;
using Prepared = float;

Register zero() { return _mm256_setzero_ps(); }
Register spread(float value) { return _mm256_set1_ps(value); }
Register load(const float* from) { return _mm256_loadu_ps(from); }
void store(float* to, Register x) { _mm256_storeu_ps(to, x); }
Register add(Register a, Register b) { return _mm256_add_ps(a, b); }
Register subtract(Register a, Register b) { return _mm256_sub_ps(a, b); }
Register multiply(Register a, Register b) { return _mm256_mul_ps(a, b); }
Register divide(Register a, Register b) { return _mm256_div_ps(a, b); }
Register larger(Register a, Register b) { return _mm256_max_ps(a, b); }
Register smaller(Register a, Register b) { return _mm256_min_ps(a, b); }
Register multiply_add(Register a, Register b, Register c) { return _mm256_fmadd_ps(a, b, c); }
Register subtract_product(Register a, Register b, Register c) { return _mm256_fnmadd_ps(a, b, c); }
Register nearest(Register x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

// For n that keep the power a normal number.
Register times_power(Register x, Register n) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return multiply(x, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}

float total(Register x) {
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}

float greatest(Register x) {
  __m128 most = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  most = _mm_max_ps(most, _mm_movehl_ps(most, most));
  return _mm_cvtss_f32(_mm_max_ss(most, _mm_movehdup_ps(most)));
}

Register between(int first, int last, Register inside, Register outside) {
  const __m256i lanes = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
  const __m256i out = _mm256_or_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(first), lanes),
                                      _mm256_cmpgt_epi32(lanes, _mm256_set1_epi32(last)));
  return _mm256_blendv_ps(inside, outside, _mm256_castsi256_ps(out));
}

Register widen(const bf16* from) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)from));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

// To the nearest bf16, of two the even.
void narrow(bf16* to, Register x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
  const __m256i high = _mm256_srli_epi32(up, 16);
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0x08);
  _mm_storeu_si128((__m128i*)to, _mm256_castsi256_si128(packed));
}

Pairs pairs(const bf16* from) {
  const __m256i both = _mm256_loadu_si256((const __m256i*)from);
  const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(both, 16)),
          _mm256_castsi256_ps(_mm256_and_si256(both, high))};
}

// Of 128 + byte, for bytes below 128, which become the upper bits of a float's mantissa.
Pairs pairs(const uint8_t* from) {
  const __m256i bytes = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)from));
  const __m256i base = _mm256_set1_epi32(0x43000000);
  const char no = -1;
  const __m256i even = _mm256_setr_epi8(no, no, 0, no, no, no, 2, no, no, no, 4, no, no, no, 6, no,
                                        no, no, 8, no, no, no, 10, no, no, no, 12, no, no, no, 14, no);
  const __m256i odd = _mm256_setr_epi8(no, no, 1, no, no, no, 3, no, no, no, 5, no, no, no, 7, no,
                                       no, no, 9, no, no, no, 11, no, no, no, 13, no, no, no, 15, no);
  return {_mm256_castsi256_ps(_mm256_or_si256(_mm256_shuffle_epi8(bytes, even), base)),
          _mm256_castsi256_ps(_mm256_or_si256(_mm256_shuffle_epi8(bytes, odd), base))};
}

Input input(const Prepared* two) { return {spread(two[0]), spread(two[1])}; }

Register add_products(Register sum, Pairs weights, Input x) {
  return multiply_add(weights.odd, x.odd, multiply_add(weights.even, x.even, sum));
}

#else
#error "these kernels need AVX-512 BF16, or AVX2 and FMA"
#endif

constexpr int kParts = kLanes / kWidth;

// Sixteen values in as many registers as they take.
struct Floats {
  Register part[kParts];
};

template <typename Make>
Floats parts(Make make) {
  Floats made;
  for (int i = 0; i < kParts; ++i) made.part[i] = make(i);
  return made;
}

Floats operator+(const Floats& a, const Floats& b) {
  return parts([&](int i) { return add(a.part[i], b.part[i]); });
}
Floats operator-(const Floats& a, const Floats& b) {
  return parts([&](int i) { return subtract(a.part[i], b.part[i]); });
}
Floats operator*(const Floats& a, const Floats& b) {
  return parts([&](int i) { return multiply(a.part[i], b.part[i]); });
}
Floats operator/(const Floats& a, const Floats& b) {
  return parts([&](int i) { return divide(a.part[i], b.part[i]); });
}
Floats multiply_add(const Floats& a, const Floats& b, const Floats& c) {
  return parts([&](int i) { return multiply_add(a.part[i], b.part[i], c.part[i]); });
}
Floats larger(const Floats& a, const Floats& b) {
  return parts([&](int i) { return larger(a.part[i], b.part[i]); });
}
Floats all(float value) {
  return parts([&](int) { return spread(value); });
}
Floats load16(const float* from) {
  return parts([&](int i) { return load(from + i * kWidth); });
}
void store16(float* to, const Floats& x) {
  for (int i = 0; i < kParts; ++i) store(to + i * kWidth, x.part[i]);
}
Floats widen16(const bf16* from) {
  return parts([&](int i) { return widen(from + i * kWidth); });
}
void narrow16(bf16* to, const Floats& x) {
  for (int i = 0; i < kParts; ++i) narrow(to + i * kWidth, x.part[i]);
}
Floats between16(int first, int last, const Floats& inside, const Floats& outside) {
  return parts([&](int i) {
    return between(first - i * kWidth, last - i * kWidth, inside.part[i], outside.part[i]);
  });
}
float total(const Floats& x) {
  Register sum = x.part[0];
  for (int i = 1; i < kParts; ++i) sum = add(sum, x.part[i]);
  return total(sum);
}
float greatest(const Floats& x) {
  Register most = x.part[0];
  for (int i = 1; i < kParts; ++i) most = larger(most, x.part[i]);
  return greatest(most);
}

// Cephes' expf: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2].
Register exponential(Register x) {
  x = smaller(larger(x, spread(-87.f)), spread(88.f));
  const Register n = nearest(multiply(x, spread(1.44269504f)));
  x = subtract_product(n, spread(0.693359375f), x);
  x = subtract_product(n, spread(-2.12194440e-4f), x);
  const float coefficients[] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f,
                                1.6666665459e-1f, 5.0000001201e-1f};
  Register y = spread(1.9875691500e-4f);
  for (float c : coefficients) y = multiply_add(y, x, spread(c));
  y = add(multiply_add(y, multiply(x, x), x), spread(1.f));
  return times_power(y, n);
}

Floats exponential(const Floats& x) {
  return parts([&](int i) { return exponential(x.part[i]); });
}

}  // namespace
