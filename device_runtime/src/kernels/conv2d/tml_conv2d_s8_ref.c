/* y[oy][ox][o] = bias[o] + sum over ky, kx, c of filter[o][ky][kx][c] * x[oy * stride - pad + ky * dilation][..kx..][c] */
#include "../kernels_internal.h"
#include "tml/requant.h"

void tml_conv2d_s8_ref(const tml_window_t *window, const tml_quant_t *quant, tml_channels_t channels, const int8_t *filter,
                       const int8_t *in, int8_t *out) {
  const uint32_t input_c = window->input_c;
  for (uint32_t oy = 0; oy < window->output_h; oy++) {
    for (uint32_t ox = 0; ox < window->output_w; ox++) {
      const int8_t *f = filter;
      for (uint32_t o = 0; o < window->output_c; o++) {
        uint32_t acc = (uint32_t)channels.bias[o]; /* unsigned: wraps */
        for (uint32_t ky = 0; ky < window->filter_h; ky++) {
          const int32_t y = tml_tap_position(oy, window->stride_h, window->pad_top, ky, window->dilation_h);
          for (uint32_t kx = 0; kx < window->filter_w; kx++, f += input_c) {
            const int32_t x = tml_tap_position(ox, window->stride_w, window->pad_left, kx, window->dilation_w);
            if (tml_is_inside(y, window->input_h) && tml_is_inside(x, window->input_w)) {
              const int8_t *pixel = in + ((size_t)y * window->input_w + (size_t)x) * input_c;
              for (uint32_t c = 0; c < input_c; c++) {
                acc += (uint32_t)(f[c] * pixel[c]);
              }
            } else {
              for (uint32_t c = 0; c < input_c; c++) {
                acc += (uint32_t)(f[c] * quant->input_zero_point);
              }
            }
          }
        }
        const int32_t scaled = tml_requantize((int32_t)acc, channels.multiplier[o], channels.shift[o]);
        *out++ = tml_to_s8(scaled, quant->output_zero_point, quant->activation_min, quant->activation_max);
      }
    }
  }
}
