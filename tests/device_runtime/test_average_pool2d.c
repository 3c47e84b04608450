/* AVERAGE_POOL_2D against the obvious loop; taps beyond the edges do not count. */
#include "windows.h"

static void check_one(const int8_t *in, uint16_t h, uint16_t w, int8_t expected) {
  const tml_window_t window = {h, w, 1, 1, 1, 1, h, w, 1, 1, 1, 1, 0, 0};
  const tml_quant_t q = {0, 0, -128, 127};
  int8_t out = 99;
  tml_average_pool2d_s8(&window, &q, in, &out);
  CHECK_EQUAL(out, expected);
}

static void by_hand(void) {
  /* The mean of 1 2 3 5 is 2.75, of their negatives -2.75; of 1 and 2 it is 1.5: halves go away from zero. */
  check_one((int8_t[]){1, 2, 3, 5}, 2, 2, 3);
  check_one((int8_t[]){-1, -2, -3, -5}, 2, 2, -3);
  check_one((int8_t[]){1, 2}, 1, 2, 2);
  check_one((int8_t[]){-1, -2}, 1, 2, -2);
}

static void at_random(void) {
  const tml_window_t w = random_window(false);
  const tml_quant_t q = random_quant();
  const size_t in_bytes = (size_t)w.input_h * w.input_w * w.input_c, out_bytes = (size_t)w.output_h * w.output_w * w.output_c;
  int8_t *in = exact_buffer(in_bytes), *out = guarded(out_bytes);
  random_fill(in, in_bytes);
  tml_average_pool2d_s8(&w, &q, in, out);
  const int8_t *found = out;
  for (int oy = 0; oy < w.output_h; oy++) {
    for (int ox = 0; ox < w.output_w; ox++) {
      for (int c = 0; c < w.input_c; c++) {
        long long sum = 0, count = 0;
        for (int y = oy * w.stride_h - w.pad_top; y < oy * w.stride_h - w.pad_top + w.filter_h; y++) {
          for (int x = ox * w.stride_w - w.pad_left; x < ox * w.stride_w - w.pad_left + w.filter_w; x++) {
            if (y >= 0 && y < w.input_h && x >= 0 && x < w.input_w) {
              const int8_t value = in[(y * w.input_w + x) * w.input_c + c];
              sum += value;
              count++;
            }
          }
        }
        const long long twice = 2 * sum + (sum > 0 ? count : -count); /* half away from zero: (2 sum +- count) / (2 count) */
        const long long result = twice / (2 * count);
        CHECK_EQUAL(*found++, clamp(result, q.activation_min, q.activation_max));
      }
    }
  }
  free(in);
  check_guards(out, out_bytes);
}

int main(void) {
  by_hand();
  for (int i = 0; i < 300; i++) {
    at_random();
  }
  return 0;
}
