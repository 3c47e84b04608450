/* Reading an image out of a slot. Everything in a slot is a stranger's until its hash has been found right. */
#include "tml/image.h"

#include <string.h>

#define TLV_INFO_BYTES 4u
#define TLV_HEAD_BYTES 4u
#define TLV_MAGIC 0x6907u
#define TLV_MAGIC_PROTECTED 0x6908u
#define TLV_SHA256 0x0010u
#define TLV_DEVICE_CLASS 0x00A0u
#define TLV_ABI_HASH 0x00A1u
#define CLASS_BYTES_MAX 64u

static uint32_t le16(const uint8_t *at) { return (uint32_t)at[0] | (uint32_t)at[1] << 8; }
static uint32_t le32(const uint8_t *at) { return le16(at) | le16(at + 2) << 16; }

typedef struct {
  const tml_flash_t *flash;
  uint32_t offset; /* of the slot */
  uint32_t bytes;  /* of the slot */
} slot_t;

/* `at` and `bytes` are within the slot. */
static bool slot_read(const slot_t *slot, uint32_t at, uint8_t *to, uint32_t bytes) {
  return tml_flash_read(slot->flash, slot->offset + at, to, bytes) == TML_OK;
}

/* An area of TLVs at `start`; its size in *bytes. */
static bool read_area(const slot_t *slot, uint32_t start, uint32_t magic, uint32_t *bytes) {
  uint8_t info[TLV_INFO_BYTES];
  if (slot->bytes - start < TLV_INFO_BYTES || !slot_read(slot, start, info, sizeof info) || le16(info) != magic) {
    return false;
  }
  *bytes = le16(info + 2);
  return *bytes >= TLV_INFO_BYTES && *bytes <= slot->bytes - start;
}

/* Find the one TLV of this type in the area [start, start + bytes): where its value is, and its size. A type that is there
 * twice is refused. */
static bool find_tlv(const slot_t *slot, uint32_t start, uint32_t bytes, uint32_t type, uint32_t *value, uint32_t *value_bytes) {
  bool found = false;
  uint32_t at = start + TLV_INFO_BYTES;
  const uint32_t end = start + bytes;
  while (at < end) {
    uint8_t head[TLV_HEAD_BYTES];
    if (end - at < TLV_HEAD_BYTES || !slot_read(slot, at, head, sizeof head)) {
      return false;
    }
    const uint32_t length = le16(head + 2);
    at += TLV_HEAD_BYTES;
    if (length > end - at) {
      return false;
    }
    if (le16(head) == type) {
      if (found) {
        return false;
      }
      found = true;
      *value = at;
      *value_bytes = length;
    }
    at += length;
  }
  return found;
}

static bool read_hash_tlv(const slot_t *slot, uint32_t start, uint32_t bytes, uint32_t type, uint8_t hash[TML_SHA256_BYTES]) {
  uint32_t value, value_bytes;
  return find_tlv(slot, start, bytes, type, &value, &value_bytes) && value_bytes == TML_SHA256_BYTES &&
         slot_read(slot, value, hash, TML_SHA256_BYTES);
}

static bool is_for_class(const slot_t *slot, uint32_t start, uint32_t bytes, const char *device_class) {
  uint32_t value, value_bytes;
  if (!find_tlv(slot, start, bytes, TLV_DEVICE_CLASS, &value, &value_bytes) || value_bytes > CLASS_BYTES_MAX) {
    return false;
  }
  uint8_t name[CLASS_BYTES_MAX];
  return strlen(device_class) == value_bytes && slot_read(slot, value, name, value_bytes) &&
         memcmp(name, device_class, value_bytes) == 0;
}

static bool read_fields(const slot_t *slot, const char *device_class, tml_image_t *out) {
  uint8_t header[TML_IMAGE_MIN_BYTES];
  if (slot->bytes < TML_IMAGE_HEADER_BYTES || !slot_read(slot, 0, header, sizeof header) || le32(header) != TML_IMAGE_MAGIC ||
      le16(header + 8) != TML_IMAGE_HEADER_BYTES) {
    return false;
  }
  out->payload_bytes = le32(header + 12);
  out->major = header[20];
  out->minor = header[21];
  out->revision = (uint16_t)le16(header + 22);
  out->build = le32(header + 24);
  if (out->payload_bytes > slot->bytes - TML_IMAGE_HEADER_BYTES) {
    return false;
  }
  const uint32_t protected_start = TML_IMAGE_HEADER_BYTES + out->payload_bytes;
  uint32_t protected_bytes, plain_bytes;
  if (!read_area(slot, protected_start, TLV_MAGIC_PROTECTED, &protected_bytes) || protected_bytes != le16(header + 10)) {
    return false;
  }
  out->hashed_bytes = protected_start + protected_bytes;
  if (!read_area(slot, out->hashed_bytes, TLV_MAGIC, &plain_bytes)) {
    return false;
  }
  out->total_bytes = out->hashed_bytes + plain_bytes;
  return is_for_class(slot, protected_start, protected_bytes, device_class) &&
         read_hash_tlv(slot, protected_start, protected_bytes, TLV_ABI_HASH, out->abi_hash) &&
         read_hash_tlv(slot, out->hashed_bytes, plain_bytes, TLV_SHA256, out->hash);
}

tml_status_t tml_image_check(const tml_flash_map_t *map, uint32_t image, uint32_t slot_index, tml_image_t *out) {
  const slot_t slot = {map->flash, map->slot_offset[image][slot_index], map->slot_bytes[image]};
  if (!read_fields(&slot, map->device_class, out)) {
    return TML_ERR_IMAGE;
  }
  tml_sha256_t sha;
  tml_sha256_start(&sha);
  uint8_t chunk[256];
  for (uint32_t at = 0; at < out->hashed_bytes;) {
    const uint32_t left = out->hashed_bytes - at;
    const uint32_t bytes = left < sizeof chunk ? left : (uint32_t)sizeof chunk;
    if (!slot_read(&slot, at, chunk, bytes)) {
      return TML_ERR_IMAGE;
    }
    tml_sha256_update(&sha, chunk, bytes);
    at += bytes;
  }
  uint8_t digest[TML_SHA256_BYTES];
  tml_sha256_finish(&sha, digest);
  return memcmp(digest, out->hash, sizeof digest) == 0 ? TML_OK : TML_ERR_IMAGE;
}
