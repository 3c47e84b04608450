/* int8 kernels: shapes come from the code, everything that retraining changes from the weights blob.
 *
 * Activations are NHWC with batch 1, filters OHWI (depthwise 1HWO), zero point of filters 0. `in` and `out` do not overlap
 * unless a kernel says so. Rounding is that of tml/requant.h (double rounding, TFLite Micro's reference).
 *
 * Zero points are folded: bias[o] = model bias[o] - input_zero_point * sum(filter[o]). Taps outside of the input then count as
 * input_zero_point, which is why padded kernels take it.
 */
#ifndef TML_KERNELS_H
#define TML_KERNELS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Per output channel, in the weights blob: y = clamp(output_zero_point + requantize(acc, multiplier[o], shift[o])). */
typedef struct {
  const int32_t *bias;       /* folded */
  const int32_t *multiplier; /* Q31, [2^30, 2^31) or 0 */
  const int8_t *shift;       /* left shift if positive, right if negative; -31..31 */
} tml_channels_t;

/* In the weights blob, 16 bytes. */
typedef struct {
  int32_t input_zero_point;
  int32_t output_zero_point;
  int32_t activation_min; /* >= -128 */
  int32_t activation_max; /* <= 127 */
} tml_quant_t;

typedef struct {
  uint16_t input_h, input_w, input_c;
  uint16_t output_h, output_w, output_c;
  uint16_t filter_h, filter_w;
  uint8_t stride_h, stride_w;
  uint8_t dilation_h, dilation_w;
  uint16_t pad_top, pad_left;
} tml_window_t; /* shape of a convolution or pooling window; depthwise: output_c = input_c * multiplier */

/* y[oy][ox][o] = out(bias[o] + sum over ky, kx, c of filter[o][ky][kx][c] * x[oy * stride - pad + ky * dilation][..kx..][c]).
 * No groups: the filter has input_c channels. Sums wrap at 32 bits. */
void tml_conv2d_s8(const tml_window_t *window, const tml_quant_t *quant, tml_channels_t channels, const int8_t *filter,
                   const int8_t *in, int8_t *out);
/* As above for one input channel a filter: output channel o reads input channel o / (output_c / input_c). */
void tml_depthwise_conv2d_s8(const tml_window_t *window, const tml_quant_t *quant, tml_channels_t channels, const int8_t *filter,
                             const int8_t *in, int8_t *out);

typedef struct {
  uint32_t rows; /* product of the leading dimensions */
  uint32_t in_features, out_features;
} tml_fully_connected_shape_t;
void tml_fully_connected_s8(const tml_fully_connected_shape_t *shape, const tml_quant_t *quant, tml_channels_t channels,
                            const int8_t *filter, const int8_t *in, int8_t *out);

/* Same scale and zero point in and out. Only activation_min and _max of quant are used. filter_h and _w are the window's, dilation
 * is 1, output_c = input_c. Taps outside of the input do not count; every window sees at least one element. The average rounds halves
 * away from zero. */
void tml_average_pool2d_s8(const tml_window_t *window, const tml_quant_t *quant, const int8_t *in, int8_t *out);
void tml_max_pool2d_s8(const tml_window_t *window, const tml_quant_t *quant, const int8_t *in, int8_t *out);

/* Mean over the middle axis of in[outer][reduced][inner] -> out[outer][inner]:
 * y = clamp(output_zero_point + requantize(sum of (x - input_zero_point))); multiplier and shift hold 1 / reduced too and multiplier may
 * be any number from 0. reduced: 1 to 2^23. */
typedef struct {
  uint32_t outer, reduced, inner;
} tml_mean_shape_t;
typedef struct {
  int32_t input_zero_point, output_zero_point;
  int32_t multiplier, shift;
} tml_mean_quant_t;
void tml_mean_s8(const tml_mean_shape_t *shape, const tml_mean_quant_t *quant, const int8_t *in, int8_t *out);

/* Element-wise with broadcast: strides in elements, 0 repeats; dims outermost first. `out` may be `in1` or `in2` where shapes are equal. */
typedef struct {
  uint32_t dims[4];
  uint32_t stride1[4], stride2[4];
} tml_broadcast_t;
typedef struct {
  int32_t input1_zero_point, input2_zero_point, output_zero_point;
  int32_t left_shift; /* 20 */
  int32_t multiplier1, shift1, multiplier2, shift2, multiplier_out, shift_out;
  int32_t activation_min, activation_max;
} tml_add_quant_t;
void tml_add_s8(const tml_broadcast_t *shape, const tml_add_quant_t *quant, const int8_t *in1, const int8_t *in2, int8_t *out);

/* Over the innermost axis, `rows` times. Output scale 1/256, zero point -128. depth: 1 to 4095, so that the sum of exponentials in
 * Q12.19 cannot overflow. `out` may be `in`. */
typedef struct {
  uint32_t rows, depth;
} tml_softmax_shape_t;
typedef struct {
  int32_t multiplier, left_shift; /* of beta * input scale, 26 fractional bits less 5 integer bits */
  int32_t diff_min; /* <= 0: x - max below it counts as probability 0 */
} tml_softmax_quant_t;
void tml_softmax_s8(const tml_softmax_shape_t *shape, const tml_softmax_quant_t *quant, const int8_t *in, int8_t *out);

/* out[i] = clamp(out_zp + requantize(in[i] - in_zp)): RELU family and int8 QUANTIZE. `out` may be `in`. */
typedef struct {
  int32_t input_zero_point, output_zero_point;
  int32_t multiplier, shift;
  int32_t activation_min, activation_max;
} tml_requantize_quant_t;
void tml_requantize_s8(uint32_t count, const tml_requantize_quant_t *quant, const int8_t *in, int8_t *out);

/* Edges of a graph only. scale is IEEE 754 binary32. Quantizing rounds halves away from zero and saturates; not a number becomes
 * the zero point. */
typedef struct {
  float scale;
  int32_t zero_point;
} tml_scale_t;
void tml_quantize_f32_s8(uint32_t count, const tml_scale_t *quant, const float *in, int8_t *out);
void tml_dequantize_s8_f32(uint32_t count, const tml_scale_t *quant, const int8_t *in, float *out);

typedef struct {
  uint32_t dims[4];             /* of the input */
  uint32_t before[4], after[4]; /* elements added */
} tml_pad_shape_t;
/* out has dims[i] + before[i] + after[i] elements along i; what is added is `value` (the zero point, unless a PADV2 names another). */
void tml_pad_s8(const tml_pad_shape_t *shape, int8_t value, const int8_t *in, int8_t *out);

#ifdef __cplusplus
}
#endif
#endif
