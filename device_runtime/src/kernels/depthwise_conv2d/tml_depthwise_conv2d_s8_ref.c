/* y[oy][ox][o] = bias[o] + sum over ky, kx of filter[ky][kx][o] * x[oy * stride - pad + ky * dilation][..kx..][o / depth multiplier] */
#include "../kernels_internal.h"
#include "tml/requant.h"

void tml_depthwise_conv2d_s8_ref(const tml_window_t *window, const tml_quant_t *quant, tml_channels_t channels,
                                 const int8_t *filter, const int8_t *in, int8_t *out) {
  const uint32_t input_c = window->input_c, output_c = window->output_c;
  const uint32_t depth_multiplier = output_c / input_c;
  for (uint32_t oy = 0; oy < window->output_h; oy++) {
    for (uint32_t ox = 0; ox < window->output_w; ox++) {
      for (uint32_t o = 0; o < output_c; o++) {
        const int8_t *f = filter + o;
        const uint32_t c = o / depth_multiplier;
        uint32_t acc = (uint32_t)channels.bias[o]; /* unsigned: wraps */
        for (uint32_t ky = 0; ky < window->filter_h; ky++) {
          const int32_t y = tml_tap_position(oy, window->stride_h, window->pad_top, ky, window->dilation_h);
          for (uint32_t kx = 0; kx < window->filter_w; kx++, f += output_c) {
            const int32_t x = tml_tap_position(ox, window->stride_w, window->pad_left, kx, window->dilation_w);
            int32_t value = quant->input_zero_point;
            if (tml_is_inside(y, window->input_h) && tml_is_inside(x, window->input_w)) {
              value = in[((size_t)y * window->input_w + (size_t)x) * input_c + c];
            }
            acc += (uint32_t)(*f * value);
          }
        }
        const int32_t scaled = tml_requantize((int32_t)acc, channels.multiplier[o], channels.shift[o]);
        *out++ = tml_to_s8(scaled, quant->output_zero_point, quant->activation_min, quant->activation_max);
      }
    }
  }
}
