/* SMP server (mcumgr's protocol), a machine fed with bytes: no heap, no clock, no waiting.
 *
 * Serial framing as mcumgr's console transport: a packet is u16 length, message, u16 CRC (big-endian, CRC-16/XMODEM over the
 * message), in base64, in lines of at most 127 bytes that begin with 06 09 (first) or 04 14 (further) and end with '\n'.
 * Groups: os 0 (echo, reset, parameters), image 1 (state, upload, erase), tinyml 64 (docs/device.md).
 */
#ifndef TML_SMP_H
#define TML_SMP_H

#include <stdbool.h>
#include <stdint.h>

#include "tml/image.h"
#include "tml/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The largest packet (length, message, CRC) that is understood, and the largest that is sent. Reported as buf_size. */
#ifndef TML_SMP_BUFFER_BYTES
#define TML_SMP_BUFFER_BYTES 2048u
#endif

typedef struct {
  const tml_flash_map_t *map;
  const tml_model_t *model;
  const uint8_t *weights; /* NULL: there are none that fit the model */
  uint8_t *arena;         /* model->arena_bytes, unless weights is NULL */
  void (*write)(const uint8_t *bytes, uint32_t count);
  uint64_t (*ticks)(void);
  uint32_t ticks_hz;
  uint32_t (*stack_high_water)(void);
  const char *hardware_id;
  uint32_t boots;
} tml_smp_config_t;

typedef struct {
  bool active;   /* some bytes of it have been taken, or all */
  uint32_t image;
  uint32_t bytes;
  uint32_t offset; /* next byte expected */
  uint32_t erased; /* bytes of the slot that have been erased for it */
  bool has_sha;
  uint8_t sha[TML_SHA256_BYTES]; /* of the whole file */
} tml_smp_upload_t;

typedef struct {
  tml_smp_config_t config;
  bool reset_requested; /* the answer has been written: reset now */

  /* Serial framing. */
  uint8_t line_state;
  uint8_t quad_count;
  uint8_t quad[4];
  uint32_t packet_bytes; /* in `packet` */
  uint8_t packet[TML_SMP_BUFFER_BYTES];
  uint8_t answer[TML_SMP_BUFFER_BYTES];

  /* Image group. */
  tml_smp_upload_t upload;
  bool plan_known;
  tml_boot_plan_t plan;

  /* Group 64. */
  uint32_t input_offset; /* next byte expected */
  bool output_valid;     /* of the last run: no input has been written since */
  uint64_t last_ticks;
  uint32_t runs, errors;
} tml_smp_t;

void tml_smp_init(tml_smp_t *smp, const tml_smp_config_t *config);

/* Take one byte from the line; answers by config.write. Look at reset_requested afterwards. */
void tml_smp_byte(tml_smp_t *smp, uint8_t byte);

/* One message (header and CBOR) to its answer in `answer`, at most `capacity` bytes; returns its size, 0: no answer. */
uint32_t tml_smp_message(tml_smp_t *smp, const uint8_t *message, uint32_t bytes, uint8_t *answer, uint32_t capacity);

#ifdef __cplusplus
}
#endif
#endif
