/* SHA-256 (FIPS 180-4). */
#ifndef TML_SHA256_H
#define TML_SHA256_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TML_SHA256_BYTES 32u

typedef struct {
  uint32_t state[8];
  uint64_t bytes; /* so far */
  uint8_t block[64];
} tml_sha256_t;

void tml_sha256_start(tml_sha256_t *sha);
void tml_sha256_update(tml_sha256_t *sha, const uint8_t *data, uint32_t bytes);
void tml_sha256_finish(tml_sha256_t *sha, uint8_t digest[TML_SHA256_BYTES]);

#ifdef __cplusplus
}
#endif
#endif
