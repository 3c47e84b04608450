/* Random windows of convolutions and pools, SAME and VALID, as TFLite pads them. */
#ifndef TML_TEST_WINDOWS_H
#define TML_TEST_WINDOWS_H

#include "tml/kernels.h"
#include "tml_test.h"

static inline uint32_t padded_output(uint32_t size, uint32_t tap_span, uint32_t stride, bool same, uint16_t *before) {
  if (!same) {
    *before = 0;
    return (size - tap_span) / stride + 1;
  }
  const uint32_t output = (size + stride - 1) / stride;
  const uint32_t needed = (output - 1) * stride + tap_span;
  *before = (uint16_t)(needed > size ? (needed - size) / 2 : 0);
  return output;
}

static inline tml_window_t random_window(bool dilated) {
  tml_window_t w = {0};
  const bool same = random_u32() % 2 == 0;
  w.dilation_h = (uint8_t)(dilated ? random_between(1, 3) : 1);
  w.dilation_w = (uint8_t)(dilated ? random_between(1, 3) : 1);
  w.filter_h = (uint16_t)random_between(1, 4);
  w.filter_w = (uint16_t)random_between(1, 4);
  w.stride_h = (uint8_t)random_between(1, 3);
  w.stride_w = (uint8_t)random_between(1, 3);
  const uint32_t span_h = (w.filter_h - 1u) * w.dilation_h + 1u, span_w = (w.filter_w - 1u) * w.dilation_w + 1u;
  w.input_h = (uint16_t)random_between(same ? 1 : (int32_t)span_h, 14);
  w.input_w = (uint16_t)random_between(same ? 1 : (int32_t)span_w, 14);
  w.output_h = (uint16_t)padded_output(w.input_h, span_h, w.stride_h, same, &w.pad_top);
  w.output_w = (uint16_t)padded_output(w.input_w, span_w, w.stride_w, same, &w.pad_left);
  w.input_c = (uint16_t)random_between(1, 9);
  w.output_c = w.input_c;
  return w;
}

static inline tml_quant_t random_quant(void) {
  tml_quant_t q = {.input_zero_point = random_s8(), .output_zero_point = random_s8()};
  q.activation_min = random_between(INT8_MIN, 0);
  q.activation_max = random_between(0, INT8_MAX);
  return q;
}

/* Folded channels and the bias before folding. `filter_sum` gives the sum of a channel's filter. */
typedef struct {
  int32_t *bias, *folded, *multiplier;
  int8_t *shift;
} test_channels_t;

static inline test_channels_t random_channels(uint32_t count) {
  test_channels_t c = {exact_buffer(count * 4u), exact_buffer(count * 4u), exact_buffer(count * 4u), exact_buffer(count)};
  for (uint32_t i = 0; i < count; i++) {
    c.bias[i] = random_u32() % 16 == 0 ? INT32_MAX : random_between(-30000, 30000);
    c.multiplier[i] = random_u32() % 16 == 0 ? 0 : random_between(1 << 30, INT32_MAX);
    c.shift[i] = (int8_t)(random_u32() % 16 == 0 ? random_between(-31, 31) : random_between(-12, -5));
  }
  return c;
}

static inline void fold(test_channels_t *c, uint32_t channel, int32_t zero_point, int64_t filter_sum) {
  c->folded[channel] = (int32_t)(uint32_t)(uint64_t)(c->bias[channel] - zero_point * filter_sum);
}

static inline tml_channels_t as_channels(const test_channels_t *c) {
  return (tml_channels_t){.bias = c->folded, .multiplier = c->multiplier, .shift = c->shift};
}

static inline void free_channels(test_channels_t *c) {
  free(c->bias);
  free(c->folded);
  free(c->multiplier);
  free(c->shift);
}

/* What a kernel must answer for the exact sum of an output. */
static inline int64_t expected_output(int64_t sum, const test_channels_t *c, uint32_t channel, const tml_quant_t *q) {
  const int32_t wrapped = (int32_t)(uint32_t)(uint64_t)(sum + c->bias[channel]);
  const int64_t scaled = slow_requantize(wrapped, c->multiplier[channel], c->shift[channel]);
  return clamp(scaled + q->output_zero_point, q->activation_min, q->activation_max);
}

#endif
