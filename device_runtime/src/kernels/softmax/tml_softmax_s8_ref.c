/* y = -128 + 256 * exp(x - max) / sum of exp(x - max), in fixed point as gemmlowp computes it: exponents in Q5.26, exp in Q0.31,
 * the sum in Q12.19. Qm.n: m integer bits, n fractional ones, and the sign.
 */
#include "../kernels_internal.h"
#include "tml/requant.h"

#define ONE_Q31 INT32_MAX

/* exp(x) for x in [-1/4, 0), both Q0.31: a Taylor series of four terms around -1/8. */
static int32_t exp_near_zero(int32_t x) {
  const int32_t exp_of_minus_eighth = 1895147668, third = 715827883;
  const int32_t a = x + (INT32_C(1) << 28);
  const int32_t a2 = tml_multiply_high(a, a);
  const int32_t a3 = tml_multiply_high(a2, a);
  const int32_t a4 = tml_multiply_high(a2, a2);
  /* a2/2 + a3/6 + a4/24 = ((a4/4 + a3)/3 + a2)/2 */
  const int32_t series = tml_divide_by_pot(tml_multiply_high(tml_divide_by_pot(a4, 2) + a3, third) + a2, 1);
  return exp_of_minus_eighth + tml_multiply_high(exp_of_minus_eighth, a + series);
}

/* exp(x) in Q0.31 for x <= 0 in Q5.26: x = r - n/4 with r in [-1/4, 0); exp(r) times exp(-2^k) for each bit k of n/4. */
static int32_t exp_of_negative(int32_t x) {
  static const int32_t exp_of_power[] = {1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242}; /* k = -2 .. 4 */
  const int32_t quarter = INT32_C(1) << 24;
  if (x == 0) {
    return ONE_Q31;
  }
  const int32_t r = (int32_t)((uint32_t)x & (uint32_t)(quarter - 1)) - quarter;
  int32_t result = exp_near_zero(r * 32);
  const uint32_t bits = (uint32_t)(r - x);
  for (uint32_t k = 0; k < sizeof exp_of_power / sizeof exp_of_power[0]; k++) {
    if ((bits & ((uint32_t)quarter << k)) != 0) {
      result = tml_multiply_high(result, exp_of_power[k]);
    }
  }
  return result;
}

static int32_t shift_left_saturating(int32_t x, uint32_t shift) {
  const int64_t wide = (int64_t)x * (INT32_C(1) << shift);
  return wide > INT32_MAX ? INT32_MAX : wide < INT32_MIN ? INT32_MIN : (int32_t)wide;
}

/* 1 / (1 + x) for x in [0, 1), both Q0.31: Newton's method on d = (1 + x) / 2, starting from 48/17 - 32/17 d, in Q2.29. */
static int32_t one_over_one_plus(int32_t x) {
  const int32_t d = (int32_t)(((uint32_t)x + (uint32_t)ONE_Q31 + 1u) >> 1);
  int32_t y = 1515870810 + tml_multiply_high(d, -1010580540);
  for (int step = 0; step < 3; step++) {
    const int32_t error = (INT32_C(1) << 29) - tml_multiply_high(d, y);
    y += shift_left_saturating(tml_multiply_high(y, error), 2);
  }
  return shift_left_saturating(y, 1); /* 1 / d = 2 / (1 + x): half of it, from Q2.29 to Q0.31 */
}

static uint32_t leading_zeros(uint32_t x) {
  uint32_t zeros = 0;
  for (; (x & (UINT32_C(1) << 31)) == 0; x <<= 1) {
    zeros++;
  }
  return zeros;
}

void tml_softmax_s8_ref(const tml_softmax_shape_t *shape, const tml_softmax_quant_t *quant, const int8_t *in, int8_t *out) {
  for (uint32_t row = 0; row < shape->rows; row++, in += shape->depth, out += shape->depth) {
    int32_t largest = INT8_MIN;
    for (uint32_t i = 0; i < shape->depth; i++) {
      largest = in[i] > largest ? in[i] : largest;
    }
    uint32_t sum = 0; /* Q12.19; at least 1, of the largest */
    for (uint32_t i = 0; i < shape->depth; i++) {
      const int32_t diff = in[i] - largest;
      if (diff >= quant->diff_min) {
        const int32_t x = tml_requantize(diff, quant->multiplier, quant->left_shift);
        sum += (uint32_t)tml_divide_by_pot(exp_of_negative(x), 12);
      }
    }
    /* sum = (1 + fraction) * 2^(12 - headroom), and so is its reciprocal. */
    const uint32_t headroom = leading_zeros(sum);
    const int32_t reciprocal = one_over_one_plus((int32_t)((sum << headroom) - (UINT32_C(1) << 31)));
    const uint32_t exponent = 12 - headroom + 31 - 8;
    for (uint32_t i = 0; i < shape->depth; i++) {
      const int32_t diff = in[i] - largest;
      int32_t y = 0;
      if (diff >= quant->diff_min && exponent <= 31) { /* beyond 31 everything rounds to 0 */
        const int32_t x = tml_requantize(diff, quant->multiplier, quant->left_shift);
        y = tml_divide_by_pot(tml_multiply_high(reciprocal, exp_of_negative(x)), exponent);
      }
      out[i] = tml_to_s8(y, INT8_MIN, INT8_MIN, INT8_MAX);
    }
  }
}
