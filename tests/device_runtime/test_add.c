/* ADD against the true sum, with broadcasting by strides and in place. */
#include "tml/kernels.h"
#include "tml_test.h"

/* Scales 1 and 1/2 to 1: multipliers of scale / (2 * larger), and twice the larger / (2^20 * 1). */
static tml_add_quant_t quant(int32_t zero1, int32_t zero2, int32_t zero_out) {
  return (tml_add_quant_t){.input1_zero_point = zero1, .input2_zero_point = zero2, .output_zero_point = zero_out,
                           .left_shift = 20, .multiplier1 = 1 << 30, .shift1 = 0, .multiplier2 = 1 << 30, .shift2 = -1,
                           .multiplier_out = 1 << 30, .shift_out = -18, .activation_min = -128, .activation_max = 127};
}

static int64_t expected(int8_t a, int8_t b, const tml_add_quant_t *q) {
  /* a + b/2 has at most one fractional bit: halves away from zero. */
  const int64_t twice = 2 * (a - q->input1_zero_point) + (b - q->input2_zero_point);
  const int64_t sum = twice >= 0 ? (twice + 1) / 2 : -((1 - twice) / 2);
  return clamp(sum + q->output_zero_point, q->activation_min, q->activation_max);
}

static void broadcast_row(void) {
  const tml_broadcast_t shape = {.dims = {1, 3, 2, 4}, .stride1 = {24, 8, 4, 1}, .stride2 = {0, 0, 0, 1}};
  const tml_add_quant_t q = quant(random_s8(), random_s8(), random_s8());
  int8_t *a = exact_buffer(24), *b = exact_buffer(4), *out = guarded(24);
  random_fill(a, 24);
  random_fill(b, 4);
  tml_add_s8(&shape, &q, a, b, out);
  for (int i = 0; i < 24; i++) {
    CHECK_EQUAL(out[i], expected(a[i], b[i % 4], &q));
  }
  free(a);
  free(b);
  check_guards(out, 24);
}

static void broadcast_column(void) {
  const tml_broadcast_t shape = {.dims = {1, 1, 5, 4}, .stride1 = {20, 20, 4, 1}, .stride2 = {5, 5, 1, 0}};
  const tml_add_quant_t q = quant(random_s8(), random_s8(), random_s8());
  int8_t *a = exact_buffer(20), *b = exact_buffer(5), *out = guarded(20);
  random_fill(a, 20);
  random_fill(b, 5);
  tml_add_s8(&shape, &q, a, b, out);
  for (int i = 0; i < 20; i++) {
    CHECK_EQUAL(out[i], expected(a[i], b[i / 4], &q));
  }
  free(a);
  free(b);
  check_guards(out, 20);
}

static void in_place(void) {
  const tml_broadcast_t shape = {.dims = {1, 1, 1, 50}, .stride1 = {50, 50, 50, 1}, .stride2 = {50, 50, 50, 1}};
  const tml_add_quant_t q = quant(random_s8(), random_s8(), random_s8());
  int8_t *a = exact_buffer(50), *b = exact_buffer(50), *was = exact_buffer(50);
  random_fill(a, 50);
  random_fill(b, 50);
  memcpy(was, a, 50);
  tml_add_s8(&shape, &q, a, b, a);
  for (int i = 0; i < 50; i++) {
    CHECK_EQUAL(a[i], expected(was[i], b[i], &q));
  }
  free(a);
  free(b);
  free(was);
}

int main(void) {
  for (int i = 0; i < 500; i++) {
    broadcast_row();
    broadcast_column();
    in_place();
  }
  return 0;
}
