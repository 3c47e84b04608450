/* y[oy][ox][c] = the largest of the elements of x that the window covers */
#include "../kernels_internal.h"
#include "tml/requant.h"

void tml_max_pool2d_s8_ref(const tml_window_t *window, const tml_quant_t *quant, const int8_t *in, int8_t *out) {
  const uint32_t channels = window->input_c;
  for (uint32_t oy = 0; oy < window->output_h; oy++) {
    for (uint32_t ox = 0; ox < window->output_w; ox++) {
      for (uint32_t c = 0; c < channels; c++) {
        int32_t largest = INT8_MIN;
        for (uint32_t ky = 0; ky < window->filter_h; ky++) {
          const int32_t y = tml_tap_position(oy, window->stride_h, window->pad_top, ky, 1);
          for (uint32_t kx = 0; kx < window->filter_w; kx++) {
            const int32_t x = tml_tap_position(ox, window->stride_w, window->pad_left, kx, 1);
            if (tml_is_inside(y, window->input_h) && tml_is_inside(x, window->input_w)) {
              const int8_t value = in[((size_t)y * window->input_w + (size_t)x) * channels + c];
              largest = value > largest ? value : largest;
            }
          }
        }
        *out++ = tml_to_s8(largest, 0, quant->activation_min, quant->activation_max);
      }
    }
  }
}
