/* The boot stage's decision and the copy that carries it out.
 *
 * The order makes a power cut harmless: while a secondary is being copied it stays as it is, so the next start decides the
 * same and copies again from the beginning. The secondaries' first blocks are erased after all copies have been checked; a cut
 * between the two erases leaves one secondary equal to its primary, which is taken once more without harm.
 */
#include <string.h>

#include "tml/image.h"

static bool is_zero(const uint8_t *bytes, uint32_t count) {
  uint8_t any = 0;
  for (uint32_t i = 0; i < count; i++) {
    any = (uint8_t)(any | bytes[i]);
  }
  return any == 0;
}

tml_status_t tml_boot_plan(const tml_flash_map_t *map, tml_boot_plan_t *plan) {
  const tml_image_t *result[TML_IMAGE_COUNT] = {NULL, NULL}; /* in the primaries, if secondaries are taken */
  for (uint32_t image = 0; image < TML_IMAGE_COUNT; image++) {
    for (uint32_t slot = 0; slot < TML_SLOT_COUNT; slot++) {
      plan->valid[image][slot] = tml_image_check(map, image, slot, &plan->images[image][slot]) == TML_OK;
      if (plan->valid[image][slot]) {
        result[image] = &plan->images[image][slot]; /* the secondary comes last, so it wins */
      }
    }
  }
  const tml_image_t *code = result[TML_IMAGE_CODE], *weights = result[TML_IMAGE_WEIGHTS];
  const bool fits = code != NULL && (is_zero(code->abi_hash, sizeof code->abi_hash) ||
                                     (weights != NULL && memcmp(code->abi_hash, weights->abi_hash, sizeof code->abi_hash) == 0));
  for (uint32_t image = 0; image < TML_IMAGE_COUNT; image++) {
    plan->take[image] = fits && plan->valid[image][TML_SLOT_SECONDARY];
  }
  return TML_OK;
}

static tml_status_t copy_block(const tml_flash_t *flash, uint32_t from, uint32_t to, uint32_t bytes) {
  tml_status_t status = tml_flash_erase(flash, to, flash->erase_block_bytes);
  uint8_t chunk[256];
  _Static_assert(sizeof chunk % TML_FLASH_WRITE_BLOCK_MAX == 0, "a chunk is a number of whole write blocks");
  for (uint32_t at = 0; status == TML_OK && at < bytes;) {
    const uint32_t left = bytes - at;
    const uint32_t size = left < sizeof chunk ? left : (uint32_t)sizeof chunk;
    const uint32_t padded = (size + flash->write_block_bytes - 1u) & ~(flash->write_block_bytes - 1u);
    memset(chunk, TML_FLASH_ERASED, sizeof chunk);
    status = tml_flash_read(flash, from + at, chunk, size);
    if (status == TML_OK) {
      status = tml_flash_write(flash, to + at, chunk, padded);
    }
    at += size;
  }
  return status;
}

static tml_status_t copy_image(const tml_flash_map_t *map, uint32_t image, const tml_image_t *what) {
  const uint32_t *offsets = map->slot_offset[image];
  const uint32_t block = map->flash->erase_block_bytes;
  for (uint32_t at = 0; at < what->total_bytes; at += block) {
    const uint32_t left = what->total_bytes - at;
    const tml_status_t status =
        copy_block(map->flash, offsets[TML_SLOT_SECONDARY] + at, offsets[TML_SLOT_PRIMARY] + at, left < block ? left : block);
    if (status != TML_OK) {
      return status;
    }
  }
  tml_image_t copy;
  if (tml_image_check(map, image, TML_SLOT_PRIMARY, &copy) != TML_OK || memcmp(copy.hash, what->hash, sizeof copy.hash) != 0) {
    return TML_ERR_FLASH;
  }
  return TML_OK;
}

tml_status_t tml_boot_update(const tml_flash_map_t *map, tml_boot_plan_t *plan) {
  tml_status_t status = tml_boot_plan(map, plan);
  for (uint32_t image = 0; status == TML_OK && image < TML_IMAGE_COUNT; image++) {
    const tml_image_t *primary = &plan->images[image][TML_SLOT_PRIMARY], *secondary = &plan->images[image][TML_SLOT_SECONDARY];
    const bool same = plan->valid[image][TML_SLOT_PRIMARY] && memcmp(primary->hash, secondary->hash, sizeof primary->hash) == 0;
    if (plan->take[image] && !same) {
      status = copy_image(map, image, secondary);
    }
  }
  for (uint32_t image = 0; status == TML_OK && image < TML_IMAGE_COUNT; image++) {
    if (plan->take[image]) {
      status = tml_flash_erase(map->flash, map->slot_offset[image][TML_SLOT_SECONDARY], map->flash->erase_block_bytes);
      plan->images[image][TML_SLOT_PRIMARY] = plan->images[image][TML_SLOT_SECONDARY];
      plan->valid[image][TML_SLOT_PRIMARY] = true;
      plan->valid[image][TML_SLOT_SECONDARY] = false;
      plan->take[image] = false;
    }
  }
  return status;
}
