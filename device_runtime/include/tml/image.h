/* MCUboot images in slots, and the boot stage's one decision.
 *
 * Format: MCUboot's, as docs/decisions/001-spine-contracts.md fixes it. Offsets in bytes, little-endian:
 *   0 u32 magic 0x96f3b83d   4 u32 load address   8 u16 header bytes (0x200)   10 u16 protected TLV bytes
 *   12 u32 payload bytes     16 u32 flags         20 u8 major, u8 minor, u16 revision, u32 build        28 u32 padding
 * then the payload, the protected TLVs (magic 0x6908), the TLVs (magic 0x6907). The hash covers all before the latter.
 */
#ifndef TML_IMAGE_H
#define TML_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "tml/flash.h"
#include "tml/sha256.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TML_IMAGE_MAGIC 0x96f3b83du
#define TML_IMAGE_HEADER_BYTES 0x200u
#define TML_IMAGE_MIN_BYTES 32u /* of a header that can be read */

enum { TML_IMAGE_CODE = 0, TML_IMAGE_WEIGHTS = 1, TML_IMAGE_COUNT = 2 };
enum { TML_SLOT_PRIMARY = 0, TML_SLOT_SECONDARY = 1, TML_SLOT_COUNT = 2 };

typedef struct {
  const tml_flash_t *flash;
  const char *device_class; /* NUL-terminated */
  uint32_t slot_offset[TML_IMAGE_COUNT][TML_SLOT_COUNT];
  uint32_t slot_bytes[TML_IMAGE_COUNT];
} tml_flash_map_t;

typedef struct {
  uint32_t payload_bytes;
  uint32_t hashed_bytes; /* header, payload, protected TLVs */
  uint32_t total_bytes;  /* of the image in its slot */
  uint8_t major, minor;
  uint16_t revision;
  uint32_t build;
  uint8_t hash[TML_SHA256_BYTES];
  uint8_t abi_hash[TML_SHA256_BYTES];
} tml_image_t;

/* TML_OK: a whole image for this class with a right hash. TML_ERR_IMAGE: anything else. Reads nothing outside of the slot. */
tml_status_t tml_image_check(const tml_flash_map_t *map, uint32_t image, uint32_t slot, tml_image_t *out);

/* What is in the four slots, and which secondaries the next boot takes: both or none where they depend on each other. */
typedef struct {
  bool valid[TML_IMAGE_COUNT][TML_SLOT_COUNT];
  tml_image_t images[TML_IMAGE_COUNT][TML_SLOT_COUNT]; /* where valid */
  bool take[TML_IMAGE_COUNT];
} tml_boot_plan_t;

tml_status_t tml_boot_plan(const tml_flash_map_t *map, tml_boot_plan_t *plan);

/* Carry out the plan: copy, check the copies, and only then erase the secondaries' first blocks. A power cut at any point is
 * repaired by calling it again. On TML_OK `plan` describes the slots afterwards; code may be started where
 * plan->valid[TML_IMAGE_CODE][TML_SLOT_PRIMARY]. */
tml_status_t tml_boot_update(const tml_flash_map_t *map, tml_boot_plan_t *plan);

#ifdef __cplusplus
}
#endif
#endif
