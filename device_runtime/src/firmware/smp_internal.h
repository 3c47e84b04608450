/* Between the parts of the SMP server. */
#ifndef TML_SMP_INTERNAL_H
#define TML_SMP_INTERNAL_H

#include "tml/smp.h"
#include "zcbor_decode.h"
#include "zcbor_encode.h"

#define SMP_HEADER_BYTES 8u
#define SMP_PACKET_OVERHEAD 4u /* length and CRC */

/* mcumgr's general codes. */
enum { MGMT_OK = 0, MGMT_UNKNOWN = 1, MGMT_NOMEM = 2, MGMT_INVALID = 3, MGMT_NOT_SUPPORTED = 8 };

enum { GROUP_OS = 0, GROUP_IMAGE = 1, GROUP_TINYML = 64 };

/* Codes of the image group. */
enum {
  IMAGE_NO_IMAGE = 3,
  IMAGE_FLASH_WRITE_FAILED = 12,
  IMAGE_FLASH_ERASE_FAILED = 13,
  IMAGE_INVALID_SLOT = 14,
  IMAGE_INVALID_OFFSET = 20,
  IMAGE_INVALID_LENGTH = 21,
  IMAGE_INVALID_HEADER = 22,
  IMAGE_INVALID_MAGIC = 23,
  IMAGE_INVALID_HASH = 24,
  IMAGE_TOO_LARGE = 30,
  IMAGE_OVERRUN = 31,
};

/* Codes of group 64. */
enum { TINYML_NO_MODEL = 1, TINYML_BAD_OFFSET = 2, TINYML_BAD_LENGTH = 3, TINYML_INVOKE_FAILED = 4 };

/* rc 0: the handler has written its map's members. general: rc is one of mcumgr's codes, else one of the group's own. */
typedef struct {
  uint32_t rc;
  bool general;
} smp_result_t;

static inline smp_result_t smp_ok(void) { return (smp_result_t){MGMT_OK, true}; }
static inline smp_result_t smp_general(uint32_t rc) { return (smp_result_t){rc, true}; }
static inline smp_result_t smp_group(uint32_t rc) { return (smp_result_t){rc, false}; }

/* Members of a request's map, all that any command takes. Pointers are into the request. */
typedef struct {
  bool has_off, has_len, has_image, has_data, has_sha, has_hash, has_text, has_slot;
  uint32_t off, len, image, slot;
  bool confirm;
  struct zcbor_string data, sha, hash, text;
} smp_request_t;

typedef smp_result_t (*smp_handler_t)(tml_smp_t *smp, const smp_request_t *request, zcbor_state_t *answer);

smp_result_t tml_smp_image_state_read(tml_smp_t *smp, const smp_request_t *request, zcbor_state_t *answer);
smp_result_t tml_smp_image_state_write(tml_smp_t *smp, const smp_request_t *request, zcbor_state_t *answer);
smp_result_t tml_smp_image_upload(tml_smp_t *smp, const smp_request_t *request, zcbor_state_t *answer);
smp_result_t tml_smp_image_erase(tml_smp_t *smp, const smp_request_t *request, zcbor_state_t *answer);

smp_result_t tml_smp_model_info(tml_smp_t *smp, const smp_request_t *request, zcbor_state_t *answer);
smp_result_t tml_smp_model_input(tml_smp_t *smp, const smp_request_t *request, zcbor_state_t *answer);
smp_result_t tml_smp_model_run(tml_smp_t *smp, const smp_request_t *request, zcbor_state_t *answer);
smp_result_t tml_smp_model_output(tml_smp_t *smp, const smp_request_t *request, zcbor_state_t *answer);
smp_result_t tml_smp_model_stats(tml_smp_t *smp, const smp_request_t *request, zcbor_state_t *answer);

/* A member of the answer's map. */
bool tml_smp_put_uint(zcbor_state_t *answer, const char *key, uint64_t value);
bool tml_smp_put_bool(zcbor_state_t *answer, const char *key, bool value);
bool tml_smp_put_bytes(zcbor_state_t *answer, const char *key, const uint8_t *value, uint32_t bytes);
bool tml_smp_put_text(zcbor_state_t *answer, const char *key, const char *value);
static inline smp_result_t smp_written(bool written) { return written ? smp_ok() : smp_general(MGMT_NOMEM); }

#endif
