/* y[i][j][k][l] = x[i - before0][j - before1][k - before2][l - before3], or `value` beyond x */
#include "../kernels_internal.h"

void tml_pad_s8_ref(const tml_pad_shape_t *shape, int8_t value, const int8_t *in, int8_t *out) {
  const uint32_t *dims = shape->dims, *before = shape->before, *after = shape->after;
  for (uint32_t i = 0; i < before[0] + dims[0] + after[0]; i++) {
    for (uint32_t j = 0; j < before[1] + dims[1] + after[1]; j++) {
      for (uint32_t k = 0; k < before[2] + dims[2] + after[2]; k++) {
        for (uint32_t l = 0; l < before[3] + dims[3] + after[3]; l++) {
          /* Unsigned: what lies before x is a large number. */
          const bool inside = i - before[0] < dims[0] && j - before[1] < dims[1] && k - before[2] < dims[2] &&
                              l - before[3] < dims[3];
          *out++ = inside ? *in++ : value;
        }
      }
    }
  }
}
