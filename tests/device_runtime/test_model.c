/* tml_model_check: each refusal has its own status, and nothing is read beyond the bytes given. */
#include "tml/model.h"
#include "tml_test.h"

enum { TOTAL = 64 };

static const tml_tensor_io_t io = {0, 4};
static const tml_model_t model = {
    .abi_hash = {1, 2, 3}, .arena_bytes = 16, .weights_bytes = TOTAL, .input_count = 1, .output_count = 1, .inputs = &io,
    .outputs = &io};

/* A good blob with one byte changed, `bytes` of it there. */
static tml_status_t check(uint32_t at, uint8_t value, uint32_t bytes) {
  const uint8_t good[TOTAL] = {'T', 'M', 'L', 'W', 1, 0, 48, 0, TOTAL, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3};
  uint8_t *blob = exact_buffer(bytes);
  memcpy(blob, good, bytes);
  if (at < bytes) {
    blob[at] = value;
  }
  const tml_status_t status = tml_model_check(&model, blob, bytes);
  free(blob);
  return status;
}

int main(void) {
  CHECK_EQUAL(check(0, 'T', TOTAL), TML_OK);
  CHECK_EQUAL(check(0, 'X', TOTAL), TML_ERR_MAGIC);
  CHECK_EQUAL(check(4, 2, TOTAL), TML_ERR_VERSION);
  CHECK_EQUAL(check(6, 47, TOTAL), TML_ERR_VERSION);
  CHECK_EQUAL(check(16, 9, TOTAL), TML_ERR_ABI);
  CHECK_EQUAL(check(47, 9, TOTAL), TML_ERR_ABI);
  CHECK_EQUAL(check(8, TOTAL - 1, TOTAL), TML_ERR_SIZE);
  CHECK_EQUAL(check(8, TOTAL + 1, TOTAL), TML_ERR_SIZE);
  CHECK_EQUAL(check(11, 0xFF, TOTAL), TML_ERR_SIZE);
  for (uint32_t bytes = 0; bytes < TOTAL; bytes++) {
    CHECK_EQUAL(check(0, 'T', bytes), TML_ERR_SIZE);
  }
  const tml_model_t factory = {.input_count = 0};
  CHECK_EQUAL(tml_model_check(&factory, NULL, 0), TML_ERR_NO_MODEL);
  return 0;
}
