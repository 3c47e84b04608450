/* CONV_2D against the formula with zero points not folded: sum of filter * (x - zero point), nothing beyond the edges. */
#include "windows.h"

static int64_t sum_at(const tml_window_t *w, int32_t zero_point, const int8_t *filter, const int8_t *in, int oy, int ox, int o) {
  int64_t sum = 0;
  for (int ky = 0; ky < w->filter_h; ky++) {
    for (int kx = 0; kx < w->filter_w; kx++) {
      const int y = oy * w->stride_h - w->pad_top + ky * w->dilation_h;
      const int x = ox * w->stride_w - w->pad_left + kx * w->dilation_w;
      for (int c = 0; c < w->input_c && y >= 0 && y < w->input_h && x >= 0 && x < w->input_w; c++) {
        sum += filter[((o * w->filter_h + ky) * w->filter_w + kx) * w->input_c + c] *
               (in[(y * w->input_w + x) * w->input_c + c] - zero_point);
      }
    }
  }
  return sum;
}

static void by_hand(void) {
  /* 2x2 input, one 2x2 filter, no padding: 1*1 + 2*2 + 3*3 + 4*4 + bias 2 = 32; times 0.25, plus zero point 1, is 9. */
  const int8_t in[] = {1, 2, 3, 4}, filter[] = {1, 2, 3, 4}, shift[] = {-1};
  const int32_t bias[] = {2}, multiplier[] = {1 << 30};
  const tml_window_t w = {2, 2, 1, 1, 1, 1, 2, 2, 1, 1, 1, 1, 0, 0};
  const tml_quant_t q = {0, 1, -128, 127};
  int8_t out = 0;
  tml_conv2d_s8(&w, &q, (tml_channels_t){bias, multiplier, shift}, filter, in, &out);
  CHECK_EQUAL(out, 9);
}

static void at_random(void) {
  tml_window_t w = random_window(true);
  w.output_c = (uint16_t)random_between(1, 9);
  const tml_quant_t q = random_quant();
  const size_t in_bytes = (size_t)w.input_h * w.input_w * w.input_c, out_bytes = (size_t)w.output_h * w.output_w * w.output_c;
  const size_t per_filter = (size_t)w.filter_h * w.filter_w * w.input_c;
  int8_t *in = exact_buffer(in_bytes), *filter = exact_buffer(per_filter * w.output_c), *out = guarded(out_bytes);
  random_fill(in, in_bytes);
  random_fill(filter, per_filter * w.output_c);
  test_channels_t c = random_channels(w.output_c);
  for (uint32_t o = 0; o < w.output_c; o++) {
    int64_t filter_sum = 0;
    for (size_t i = 0; i < per_filter; i++) {
      filter_sum += filter[o * per_filter + i];
    }
    fold(&c, o, q.input_zero_point, filter_sum);
  }
  tml_conv2d_s8(&w, &q, as_channels(&c), filter, in, out);
  const int8_t *found = out;
  for (int oy = 0; oy < w.output_h; oy++) {
    for (int ox = 0; ox < w.output_w; ox++) {
      for (int o = 0; o < w.output_c; o++) {
        const int64_t sum = sum_at(&w, q.input_zero_point, filter, in, oy, ox, o);
        CHECK_EQUAL(*found++, expected_output(sum, &c, (uint32_t)o, &q));
      }
    }
  }
  free(in);
  free(filter);
  free_channels(&c);
  check_guards(out, out_bytes);
}

int main(void) {
  by_hand();
  for (int i = 0; i < 300; i++) {
    at_random();
  }
  return 0;
}
