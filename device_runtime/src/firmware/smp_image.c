/* The image group: what is in the slots, and taking an image into a secondary.
 *
 * Blocks are erased only as an upload reaches them. An upload carries the hash of its whole file: the same hash again goes on
 * where it stopped, another one starts over. What boots is decided by the boot stage alone: `pending` shows its decision.
 */
#include <string.h>

#include "smp_internal.h"

#define VERSION_TEXT_BYTES 32u

static const tml_boot_plan_t *plan_of(tml_smp_t *smp) {
  if (!smp->plan_known) {
    smp->plan_known = tml_boot_plan(smp->config.map, &smp->plan) == TML_OK;
  }
  return &smp->plan;
}

static char *append_number(char *at, uint32_t value) {
  char digits[10];
  unsigned count = 0;
  do {
    digits[count++] = (char)('0' + value % 10u);
    value /= 10u;
  } while (value != 0);
  while (count > 0) {
    *at++ = digits[--count];
  }
  return at;
}

static void version_text(const tml_image_t *image, char text[VERSION_TEXT_BYTES]) {
  char *at = append_number(text, image->major);
  *at++ = '.';
  at = append_number(at, image->minor);
  *at++ = '.';
  at = append_number(at, image->revision);
  if (image->build != 0) {
    *at++ = '.';
    at = append_number(at, image->build);
  }
  *at = '\0';
}

static bool put_image(zcbor_state_t *answer, const tml_boot_plan_t *plan, uint32_t image, uint32_t slot) {
  const tml_image_t *found = &plan->images[image][slot];
  const bool primary = slot == TML_SLOT_PRIMARY;
  char version[VERSION_TEXT_BYTES];
  version_text(found, version);
  return zcbor_map_start_encode(answer, 8) && tml_smp_put_uint(answer, "image", image) && tml_smp_put_uint(answer, "slot", slot) &&
         tml_smp_put_text(answer, "version", version) && tml_smp_put_bytes(answer, "hash", found->hash, sizeof found->hash) &&
         tml_smp_put_bool(answer, "bootable", image == TML_IMAGE_CODE) &&
         tml_smp_put_bool(answer, "pending", !primary && plan->take[image]) && tml_smp_put_bool(answer, "confirmed", primary) &&
         tml_smp_put_bool(answer, "active", primary) && zcbor_map_end_encode(answer, 8);
}

smp_result_t tml_smp_image_state_read(tml_smp_t *smp, const smp_request_t *request, zcbor_state_t *answer) {
  (void)request;
  const tml_boot_plan_t *plan = plan_of(smp);
  bool ok = zcbor_tstr_put_lit(answer, "images") && zcbor_list_start_encode(answer, 4);
  for (uint32_t image = 0; image < TML_IMAGE_COUNT; image++) {
    for (uint32_t slot = 0; slot < TML_SLOT_COUNT; slot++) {
      ok = ok && (!plan->valid[image][slot] || put_image(answer, plan, image, slot));
    }
  }
  return smp_written(ok && zcbor_list_end_encode(answer, 4));
}

/* Marking for test or confirming changes nothing yet: boot takes each pair that fits. It is refused for what is not here. */
smp_result_t tml_smp_image_state_write(tml_smp_t *smp, const smp_request_t *request, zcbor_state_t *answer) {
  if (request->has_hash) {
    const tml_boot_plan_t *plan = plan_of(smp);
    bool found = false;
    for (uint32_t image = 0; image < TML_IMAGE_COUNT; image++) {
      for (uint32_t slot = 0; slot < TML_SLOT_COUNT; slot++) {
        found = found || (plan->valid[image][slot] && request->hash.len == TML_SHA256_BYTES &&
                          memcmp(plan->images[image][slot].hash, request->hash.value, TML_SHA256_BYTES) == 0);
      }
    }
    if (!found) {
      return smp_group(IMAGE_INVALID_HASH);
    }
  } else if (!request->confirm) {
    return smp_general(MGMT_INVALID);
  }
  return tml_smp_image_state_read(smp, request, answer);
}

static uint32_t secondary_of(const tml_smp_t *smp, uint32_t image) {
  return smp->config.map->slot_offset[image][TML_SLOT_SECONDARY];
}

/* Erase the blocks that [0, end) of the upload's slot needs and that are not erased yet. */
static bool erase_until(tml_smp_t *smp, uint32_t end) {
  const tml_flash_t *flash = smp->config.map->flash;
  tml_smp_upload_t *upload = &smp->upload;
  while (upload->erased < end) {
    if (tml_flash_erase(flash, secondary_of(smp, upload->image) + upload->erased, flash->erase_block_bytes) != TML_OK) {
      return false;
    }
    upload->erased += flash->erase_block_bytes;
  }
  return true;
}

static smp_result_t start_upload(tml_smp_t *smp, const smp_request_t *request) {
  const uint32_t image = request->has_image ? request->image : TML_IMAGE_CODE;
  const uint32_t magic_bytes = 4;
  if (image >= TML_IMAGE_COUNT) {
    return smp_group(IMAGE_INVALID_SLOT);
  }
  if (!request->has_len) {
    return smp_group(IMAGE_INVALID_LENGTH);
  }
  if (request->len > smp->config.map->slot_bytes[image]) {
    return smp_group(IMAGE_TOO_LARGE);
  }
  if (request->len < TML_IMAGE_HEADER_BYTES || request->data.len < magic_bytes) {
    return smp_group(IMAGE_INVALID_HEADER);
  }
  if (request->has_sha && request->sha.len != TML_SHA256_BYTES) {
    return smp_group(IMAGE_INVALID_HASH);
  }
  const uint8_t *d = request->data.value;
  if (((uint32_t)d[0] | (uint32_t)d[1] << 8 | (uint32_t)d[2] << 16 | (uint32_t)d[3] << 24) != TML_IMAGE_MAGIC) {
    return smp_group(IMAGE_INVALID_MAGIC); /* before anything is erased */
  }
  tml_smp_upload_t *upload = &smp->upload;
  memset(upload, 0, sizeof *upload);
  upload->active = true;
  upload->image = image;
  upload->bytes = request->len;
  upload->has_sha = request->has_sha;
  if (request->has_sha) {
    memcpy(upload->sha, request->sha.value, sizeof upload->sha);
  }
  return smp_ok();
}

static bool is_resumed(const tml_smp_t *smp, const smp_request_t *request) {
  const tml_smp_upload_t *upload = &smp->upload;
  const uint32_t image = request->has_image ? request->image : TML_IMAGE_CODE;
  return upload->active && upload->has_sha && upload->image == image && request->has_len && upload->bytes == request->len &&
         request->has_sha && request->sha.len == TML_SHA256_BYTES &&
         memcmp(upload->sha, request->sha.value, TML_SHA256_BYTES) == 0;
}

/* Write the part of the data that is whole write blocks; the last block of an image is filled with erased bytes. */
static smp_result_t take_data(tml_smp_t *smp, const struct zcbor_string *data) {
  tml_smp_upload_t *upload = &smp->upload;
  const tml_flash_t *flash = smp->config.map->flash;
  const uint32_t block = flash->write_block_bytes, size = (uint32_t)data->len;
  const uint32_t rest = size % block;
  const uint32_t whole = size - rest;
  const bool last = upload->offset + size == upload->bytes;
  if (whole == 0 && !last) {
    return size == 0 ? smp_ok() : smp_group(IMAGE_INVALID_LENGTH); /* less than can be written */
  }
  if (!erase_until(smp, upload->offset + size)) {
    upload->active = false;
    return smp_group(IMAGE_FLASH_ERASE_FAILED);
  }
  const uint32_t to = secondary_of(smp, upload->image) + upload->offset;
  tml_status_t status = whole > 0 ? tml_flash_write(flash, to, data->value, whole) : TML_OK;
  if (status == TML_OK && last && rest > 0) {
    uint8_t tail[TML_FLASH_WRITE_BLOCK_MAX];
    memset(tail, TML_FLASH_ERASED, sizeof tail);
    memcpy(tail, data->value + whole, rest);
    status = tml_flash_write(flash, to + whole, tail, block);
  }
  if (status != TML_OK) {
    upload->active = false;
    return smp_group(IMAGE_FLASH_WRITE_FAILED);
  }
  upload->offset += last ? size : whole;
  return smp_ok();
}

static bool has_right_sha(tml_smp_t *smp) {
  const tml_smp_upload_t *upload = &smp->upload;
  tml_sha256_t sha;
  tml_sha256_start(&sha);
  for (uint32_t at = 0; at < upload->bytes;) {
    uint8_t chunk[256];
    const uint32_t left = upload->bytes - at;
    const uint32_t bytes = left < sizeof chunk ? left : (uint32_t)sizeof chunk;
    if (tml_flash_read(smp->config.map->flash, secondary_of(smp, upload->image) + at, chunk, bytes) != TML_OK) {
      return false;
    }
    tml_sha256_update(&sha, chunk, bytes);
    at += bytes;
  }
  uint8_t digest[TML_SHA256_BYTES];
  tml_sha256_finish(&sha, digest);
  return memcmp(digest, upload->sha, sizeof digest) == 0;
}

smp_result_t tml_smp_image_upload(tml_smp_t *smp, const smp_request_t *request, zcbor_state_t *answer) {
  if (!request->has_off) {
    return smp_group(IMAGE_INVALID_OFFSET);
  }
  if (!request->has_data) {
    return smp_general(MGMT_INVALID);
  }
  tml_smp_upload_t *upload = &smp->upload;
  const bool resumed = request->off == 0 && is_resumed(smp, request) && upload->offset > 0;
  if (request->off == 0 && !resumed) {
    const smp_result_t started = start_upload(smp, request);
    if (started.rc != MGMT_OK) {
      return started;
    }
  }
  if (!upload->active) {
    return smp_group(IMAGE_INVALID_OFFSET);
  }
  /* Data for another place than the next one is answered with the next one: the client goes on from there. */
  if (!resumed && request->off == upload->offset) {
    if (request->data.len > upload->bytes - upload->offset) {
      return smp_group(IMAGE_OVERRUN);
    }
    smp->plan_known = false;
    const smp_result_t taken = take_data(smp, &request->data);
    if (taken.rc != MGMT_OK) {
      return taken;
    }
  }
  bool ok = tml_smp_put_uint(answer, "off", upload->offset);
  if (upload->offset == upload->bytes && upload->has_sha) {
    const bool match = has_right_sha(smp);
    ok = ok && tml_smp_put_bool(answer, "match", match);
    upload->active = match; /* a wrong one is not gone on with */
  }
  return smp_written(ok);
}

/* `slot` counts over all images, as mcumgr does: 1 is the code's secondary, 3 the weights'. */
smp_result_t tml_smp_image_erase(tml_smp_t *smp, const smp_request_t *request, zcbor_state_t *answer) {
  (void)answer;
  const uint32_t slot = request->has_slot ? request->slot : TML_SLOT_SECONDARY;
  if (slot >= TML_IMAGE_COUNT * TML_SLOT_COUNT || slot % TML_SLOT_COUNT != TML_SLOT_SECONDARY) {
    return smp_group(IMAGE_INVALID_SLOT);
  }
  const uint32_t image = slot / TML_SLOT_COUNT;
  smp->plan_known = false;
  if (smp->upload.image == image) {
    smp->upload.active = false;
  }
  const tml_flash_t *flash = smp->config.map->flash;
  return tml_flash_erase(flash, secondary_of(smp, image), flash->erase_block_bytes) == TML_OK ? smp_ok()
                                                                                           : smp_group(IMAGE_FLASH_ERASE_FAILED);
}
