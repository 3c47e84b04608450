/* libFuzzer over what a stranger can send to a device: slots of the flash, bytes on the line, SMP messages.
 *
 * Input: kind, write block, erase block, then by kind
 *   0  the four slots as they are              1  the four slots, each given the hash that it should have
 *   2  bytes on the line                       3  messages: version and op, group, command, u16 length, CBOR; 4: small answers
 *   5  requests that decode, of any offset and length: see request()
 * A write onto a byte that is not erased aborts, as do an image larger than its slot and an answer larger than its buffer.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tml/image.h"
#include "tml/smp.h"

#define SLOT 4096u
#define SLOTS 4u
#define KINDS 6u

static const uint32_t write_blocks[] = {1, 2, 4, 8, 16, 32, 64}, erase_blocks[] = {64, 128, 512, 1024, 2048, 4096};
static uint8_t *cells;
static uint32_t erase_block;

static tml_status_t ram_read(void *context, uint32_t offset, uint8_t *to, uint32_t bytes) {
  (void)context;
  memcpy(to, cells + offset, bytes);
  return TML_OK;
}

static tml_status_t ram_write(void *context, uint32_t offset, const uint8_t *from, uint32_t bytes) {
  (void)context;
  for (uint32_t i = 0; i < bytes; i++) {
    if (cells[offset + i] != TML_FLASH_ERASED) {
      abort();
    }
    cells[offset + i] = from[i];
  }
  return TML_OK;
}

static tml_status_t ram_erase(void *context, uint32_t offset) {
  (void)context;
  memset(cells + offset, TML_FLASH_ERASED, erase_block);
  return TML_OK;
}

static void nowhere(const uint8_t *bytes, uint32_t count) {
  volatile uint8_t all = 0;
  for (uint32_t i = 0; i < count; i++) {
    all = (uint8_t)(all ^ bytes[i]);
  }
}

static uint64_t no_ticks(void) { return 5; }
static uint32_t no_stack(void) { return 100; }

static tml_status_t invoke(const uint8_t *weights, uint8_t *arena) {
  for (uint32_t i = 0; i < 8u; i++) {
    arena[24u + i] = (uint8_t)(arena[i] + arena[16u + i % 4u] + weights[48u + i]);
  }
  return TML_OK;
}

static const tml_tensor_io_t inputs[2] = {{0, 8}, {16, 4}}, outputs[1] = {{24, 8}};
static const tml_model_t model = {.abi_hash = {1},
                                  .arena_bytes = 32,
                                  .weights_bytes = 64,
                                  .input_count = 2,
                                  .output_count = 1,
                                  .inputs = inputs,
                                  .outputs = outputs,
                                  .invoke = invoke};

static uint32_t word(const uint8_t *at) {
  return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* Chance never finds a SHA-256: it is put where the header says that the image ends. */
static void give_hash(uint8_t *slot) {
  const uint64_t end = 0x200u + (uint64_t)word(slot + 12) + ((uint32_t)slot[10] | (uint32_t)slot[11] << 8);
  static const uint8_t head[8] = {0x07, 0x69, 40, 0, 0x10, 0, 32, 0};
  if (end + sizeof head + TML_SHA256_BYTES > SLOT) {
    return;
  }
  tml_sha256_t sha;
  tml_sha256_start(&sha);
  tml_sha256_update(&sha, slot, (uint32_t)end);
  tml_sha256_finish(&sha, slot + end + sizeof head);
  memcpy(slot + end, head, sizeof head);
}

static void fuzz_slots(const tml_flash_map_t *map, int hashed, const uint8_t *data, size_t size) {
  memcpy(cells, data, size < SLOTS * SLOT ? size : SLOTS * SLOT);
  for (uint32_t slot = 0; hashed && slot < SLOTS; slot++) {
    give_hash(cells + slot * SLOT);
  }
  static tml_boot_plan_t plan;
  if (tml_boot_update(map, &plan) != TML_OK) {
    abort(); /* this flash never fails */
  }
  for (uint32_t image = 0; image < TML_IMAGE_COUNT; image++) {
    for (uint32_t slot = 0; slot < TML_SLOT_COUNT; slot++) {
      if (plan.valid[image][slot] && plan.images[image][slot].total_bytes > SLOT) {
        abort();
      }
    }
  }
}

static void fuzz_messages(tml_smp_t *smp, uint32_t capacity, const uint8_t *data, size_t size) {
  static const uint16_t groups[] = {0, 1, 64, 7};
  while (size >= 5) {
    uint32_t length = ((uint32_t)data[3] << 8 | data[4]) % (TML_SMP_BUFFER_BYTES - 12u);
    length = length < size - 5 ? length : (uint32_t)(size - 5);
    const uint16_t group = groups[data[1] % 4];
    uint8_t *const message = malloc(8 + length), *const answer = malloc(capacity);
    const uint8_t header[8] = {data[0], 0, (uint8_t)(length >> 8), (uint8_t)length, (uint8_t)(group >> 8), (uint8_t)group, 1, data[2] % 8};
    memcpy(message, header, sizeof header);
    memcpy(message + 8, data + 5, length);
    const uint32_t bytes = tml_smp_message(smp, message, 8 + length, answer, capacity);
    if (bytes > capacity || (bytes != 0 && ((uint32_t)answer[2] << 8 | answer[3]) + 8u != bytes)) {
      abort();
    }
    free(message);
    free(answer);
    data += 5 + length;
    size -= 5 + length;
  }
}

typedef struct {
  uint8_t bytes[TML_SMP_BUFFER_BYTES];
  uint32_t count;
} writer_t;

static void put_head(writer_t *to, uint8_t major, uint32_t value) {
  const uint8_t head[5] = {(uint8_t)(major << 5 | 26u), (uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8),
                           (uint8_t)value};
  memcpy(to->bytes + to->count, head, sizeof head);
  to->count += sizeof head;
}

static void put_key(writer_t *to, const char *key) {
  put_head(to, 3, (uint32_t)strlen(key));
  memcpy(to->bytes + to->count, key, strlen(key));
  to->count += (uint32_t)strlen(key);
}

static void put_number(writer_t *to, const char *key, uint32_t value) {
  put_key(to, key);
  put_head(to, 0, value);
}

static void put_data(writer_t *to, const char *key, uint32_t count) {
  static const uint8_t magic[4] = {0x3d, 0xb8, 0xf3, 0x96};
  put_key(to, key);
  put_head(to, 2, count);
  memset(to->bytes + to->count, 0x5A, count);
  memcpy(to->bytes + to->count, magic, count < 4 ? count : 4);
  to->count += count;
}

/* 9 bytes: command, members, image, u16 off, u16 len, u16 bytes of data. */
static void request(tml_smp_t *smp, const uint8_t *from) {
  static const uint8_t commands[][3] = {{2, 1, 1}, {2, 64, 1}, {0, 64, 3}, {2, 64, 2}, {2, 1, 5}, {0, 1, 0}, {2, 1, 0}}; /* op, group, id */
  const uint8_t *command = commands[from[0] % 7], members = from[1];
  writer_t to = {{(uint8_t)(8u | command[0]), 0, 0, 0, 0, command[1], 1, command[2], 0xBF}, 9};
  const uint32_t data_bytes = ((uint32_t)from[7] << 8 | from[8]) % 1900u;
  if ((members & 1) != 0) {
    put_number(&to, "off", (members & 64) != 0 ? UINT32_MAX - from[4] : (uint32_t)from[3] << 8 | from[4]);
  }
  if ((members & 2) != 0) {
    put_number(&to, "len", (members & 128) != 0 ? UINT32_MAX - from[6] : (uint32_t)from[5] << 8 | from[6]);
  }
  if ((members & 4) != 0) {
    put_number(&to, "image", from[2]);
    put_number(&to, "slot", from[2]);
  }
  if ((members & 8) != 0) {
    put_data(&to, "sha", (members & 16) != 0 ? from[2] % 40u : 32u);
  }
  if ((members & 32) != 0) {
    put_data(&to, "data", data_bytes);
  }
  to.bytes[to.count++] = 0xFF;
  to.bytes[2] = (uint8_t)((to.count - 8u) >> 8);
  to.bytes[3] = (uint8_t)(to.count - 8u);
  uint8_t *const message = malloc(to.count), *const answer = malloc(TML_SMP_BUFFER_BYTES - 4u);
  memcpy(message, to.bytes, to.count);
  if (tml_smp_message(smp, message, to.count, answer, TML_SMP_BUFFER_BYTES - 4u) < 9u) {
    abort(); /* a request is answered, whatever it asks for */
  }
  if (smp->upload.offset > smp->upload.bytes || smp->upload.bytes > SLOT) {
    abort();
  }
  free(message);
  free(answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 3) {
    return 0;
  }
  const uint32_t kind = data[0] % KINDS;
  erase_block = erase_blocks[data[2] % 6];
  cells = malloc(SLOTS * SLOT);
  memset(cells, TML_FLASH_ERASED, SLOTS * SLOT);
  const tml_flash_t flash = {.bytes = SLOTS * SLOT,
                             .erase_block_bytes = erase_block,
                             .write_block_bytes = write_blocks[data[1] % 7],
                             .read = ram_read,
                             .write = ram_write,
                             .erase = ram_erase};
  const tml_flash_map_t map = {.flash = &flash,
                               .device_class = "unit-class",
                               .slot_offset = {{0, SLOT}, {2 * SLOT, 3 * SLOT}},
                               .slot_bytes = {SLOT, SLOT}};
  data += 3;
  size -= 3;
  if (kind < 2) {
    fuzz_slots(&map, kind == 1, data, size);
  } else {
    tml_smp_t *const smp = malloc(sizeof *smp);
    uint8_t *const weights = calloc(1, 64), *const arena = calloc(1, 32);
    const tml_smp_config_t config = {.map = &map,
                                     .model = &model,
                                     .weights = weights,
                                     .arena = arena,
                                     .write = nowhere,
                                     .ticks = no_ticks,
                                     .stack_high_water = no_stack,
                                     .hardware_id = "x"};
    tml_smp_init(smp, &config);
    for (size_t i = 0; kind == 2 && i < size; i++) {
      tml_smp_byte(smp, data[i]);
    }
    for (size_t at = 0; kind == 5 && at + 9 <= size; at += 9) {
      request(smp, data + at);
    }
    if (kind == 3 || kind == 4) {
      fuzz_messages(smp, kind == 3 ? TML_SMP_BUFFER_BYTES - 4u : 40u, data, size);
    }
    free(smp);
    free(weights);
    free(arena);
  }
  free(cells);
  return 0;
}
