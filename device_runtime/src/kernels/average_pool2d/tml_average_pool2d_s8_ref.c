/* y[oy][ox][c] = (sum of the elements of x that the window covers) / (their number), halves away from zero */
#include "../kernels_internal.h"
#include "tml/requant.h"

void tml_average_pool2d_s8_ref(const tml_window_t *window, const tml_quant_t *quant, const int8_t *in, int8_t *out) {
  const uint32_t channels = window->input_c;
  for (uint32_t oy = 0; oy < window->output_h; oy++) {
    for (uint32_t ox = 0; ox < window->output_w; ox++) {
      for (uint32_t c = 0; c < channels; c++) {
        int32_t sum = 0, count = 0;
        for (uint32_t ky = 0; ky < window->filter_h; ky++) {
          const int32_t y = tml_tap_position(oy, window->stride_h, window->pad_top, ky, 1);
          for (uint32_t kx = 0; kx < window->filter_w; kx++) {
            const int32_t x = tml_tap_position(ox, window->stride_w, window->pad_left, kx, 1);
            if (tml_is_inside(y, window->input_h) && tml_is_inside(x, window->input_w)) {
              sum += in[((size_t)y * window->input_w + (size_t)x) * channels + c];
              count++;
            }
          }
        }
        TML_ASSERT(count > 0);
        const int32_t average = (sum > 0 ? sum + count / 2 : sum - count / 2) / count;
        *out++ = tml_to_s8(average, 0, quant->activation_min, quant->activation_max);
      }
    }
  }
}
