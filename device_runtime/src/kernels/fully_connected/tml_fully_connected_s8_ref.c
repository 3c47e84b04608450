/* y[row][o] = bias[o] + sum over i of filter[o][i] * x[row][i] */
#include "../kernels_internal.h"
#include "tml/requant.h"

void tml_fully_connected_s8_ref(const tml_fully_connected_shape_t *shape, const tml_quant_t *quant, tml_channels_t channels,
                                const int8_t *filter, const int8_t *in, int8_t *out) {
  for (uint32_t row = 0; row < shape->rows; row++, in += shape->in_features) {
    const int8_t *f = filter;
    for (uint32_t o = 0; o < shape->out_features; o++, f += shape->in_features) {
      uint32_t acc = (uint32_t)channels.bias[o]; /* unsigned: wraps */
      for (uint32_t i = 0; i < shape->in_features; i++) {
        acc += (uint32_t)(f[i] * in[i]);
      }
      const int32_t scaled = tml_requantize((int32_t)acc, channels.multiplier[o], channels.shift[o]);
      *out++ = tml_to_s8(scaled, quant->output_zero_point, quant->activation_min, quant->activation_max);
    }
  }
}
