/* The boot stage's C over a flash in RAM that loses its power.
 *
 *   boot_harness check CLASS FLASH OFFSET BYTES       is there an image? prints its hash, or "none"
 *   boot_harness cut CLASS FLASH ERASE WRITE MODE c0 c1 cbytes w0 w1 wbytes
 *       cut the power in each operation of an update in turn, start again, and again cut that; prints one line a cut:
 *       <operation> <second operation> <code hash> <weights hash> <second run's status>
 *   boot_harness sha256 FILE
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tml/image.h"

static uint8_t *cells;
static uint32_t cell_count;
static uint32_t erase_block;
static long operations_left; /* negative: no cut */
static long operations;
static int mode; /* what the operation under way at the cut leaves: 0 nothing, 1 half, 2 garbage */

static int power_fails(void) {
  operations++;
  return operations_left >= 0 && operations_left-- == 0;
}

static int is_off(void) { return operations_left == -2; }

static tml_status_t ram_read(void *context, uint32_t offset, uint8_t *to, uint32_t bytes) {
  (void)context;
  memcpy(to, cells + offset, bytes);
  return TML_OK;
}

static tml_status_t torn(uint32_t offset, const uint8_t *from, uint32_t bytes) {
  for (uint32_t i = 0; i < bytes && mode != 0; i++) {
    if (mode == 1 && i >= bytes / 2) {
      break;
    }
    cells[offset + i] = mode == 1 ? (from != NULL ? from[i] : 0xFF) : (uint8_t)(i * 37u + 11u);
  }
  operations_left = -2;
  return TML_ERR_FLASH;
}

static tml_status_t ram_write(void *context, uint32_t offset, const uint8_t *from, uint32_t bytes) {
  (void)context;
  if (is_off()) {
    return TML_ERR_FLASH;
  }
  if (power_fails()) {
    return torn(offset, from, bytes);
  }
  for (uint32_t i = 0; i < bytes; i++) {
    if (cells[offset + i] != 0xFF) {
      fprintf(stderr, "write onto a byte that is not erased: %lu\n", (unsigned long)(offset + i));
      exit(3);
    }
    cells[offset + i] = from[i];
  }
  return TML_OK;
}

static tml_status_t ram_erase(void *context, uint32_t offset) {
  (void)context;
  if (is_off()) {
    return TML_ERR_FLASH;
  }
  if (power_fails()) {
    return torn(offset, NULL, erase_block);
  }
  memset(cells + offset, 0xFF, erase_block);
  return TML_OK;
}

static uint8_t *read_file(const char *path, uint32_t *bytes) {
  FILE *file = fopen(path, "rb");
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
    exit(2);
  }
  *bytes = (uint32_t)ftell(file);
  rewind(file);
  uint8_t *content = malloc(*bytes + 1u);
  if (content == NULL || fread(content, 1, *bytes, file) != *bytes) {
    exit(2);
  }
  fclose(file);
  return content;
}

static void print_hash(const tml_flash_map_t *map, uint32_t image) {
  tml_image_t found;
  if (tml_image_check(map, image, TML_SLOT_PRIMARY, &found) != TML_OK) {
    printf(" none");
    return;
  }
  printf(" ");
  for (unsigned i = 0; i < sizeof found.hash; i++) {
    printf("%02x", found.hash[i]);
  }
}

static long run(const tml_flash_map_t *map, long cut, tml_status_t *status) {
  static tml_boot_plan_t plan;
  operations_left = cut;
  operations = 0;
  *status = tml_boot_update(map, &plan);
  return operations;
}

static void cut_everywhere(const tml_flash_map_t *map) {
  uint8_t *const before = malloc(cell_count), *const between = malloc(cell_count);
  tml_status_t status;
  memcpy(before, cells, cell_count);
  const long total = run(map, -1, &status);
  for (long cut = 0; cut <= total; cut++) {
    memcpy(cells, before, cell_count);
    run(map, cut, &status);
    memcpy(between, cells, cell_count);
    const long again = run(map, -1, &status);
    for (long second = -1; second < again; second += 1 + again / 5) {
      memcpy(cells, between, cell_count);
      if (second >= 0) {
        run(map, second, &status);
      }
      run(map, -1, &status);
      printf("%ld %ld", cut, second);
      print_hash(map, TML_IMAGE_CODE);
      print_hash(map, TML_IMAGE_WEIGHTS);
      printf(" %d\n", (int)status);
    }
  }
  free(before);
  free(between);
}

static int sha256_of(const char *path) {
  uint32_t bytes;
  uint8_t *content = read_file(path, &bytes);
  /* In pieces of growing size, so that every fill of the block happens. */
  tml_sha256_t sha;
  tml_sha256_start(&sha);
  for (uint32_t at = 0, size = 0; at < bytes; at += size, size++) {
    size = size < bytes - at ? size : bytes - at;
    tml_sha256_update(&sha, content + at, size);
  }
  uint8_t digest[TML_SHA256_BYTES];
  tml_sha256_finish(&sha, digest);
  for (unsigned i = 0; i < sizeof digest; i++) {
    printf("%02x", digest[i]);
  }
  printf("\n");
  free(content);
  return 0;
}

int main(int count, char **arguments) {
  if (count == 3 && strcmp(arguments[1], "sha256") == 0) {
    return sha256_of(arguments[2]);
  }
  if (count < 6) {
    return 2;
  }
  cells = read_file(arguments[3], &cell_count);
  uint32_t numbers[9] = {0};
  for (int i = 4; i < count && i < 13; i++) {
    numbers[i - 4] = (uint32_t)strtoul(arguments[i], NULL, 10);
  }
  const int cutting = strcmp(arguments[1], "cut") == 0;
  erase_block = cutting ? numbers[0] : 512u;
  mode = (int)numbers[2];
  const tml_flash_t flash = {
      .bytes = cell_count,
      .erase_block_bytes = erase_block,
      .write_block_bytes = cutting ? numbers[1] : 4u,
      .read = ram_read,
      .write = ram_write,
      .erase = ram_erase,
  };
  tml_flash_map_t map = {.flash = &flash, .device_class = arguments[2]};
  if (cutting && count == 13) {
    map.slot_offset[0][0] = numbers[3];
    map.slot_offset[0][1] = numbers[4];
    map.slot_bytes[0] = numbers[5];
    map.slot_offset[1][0] = numbers[6];
    map.slot_offset[1][1] = numbers[7];
    map.slot_bytes[1] = numbers[8];
    cut_everywhere(&map);
    return 0;
  }
  map.slot_offset[0][0] = numbers[0];
  map.slot_bytes[0] = numbers[1];
  print_hash(&map, TML_IMAGE_CODE);
  printf("\n");
  return 0;
}
