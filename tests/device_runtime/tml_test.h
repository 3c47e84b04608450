/* What the C tests share: checks, random numbers, guarded buffers, and rounding written a second time, the slow way. */
#ifndef TML_TEST_H
#define TML_TEST_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                    \
  do {                                                                      \
    if (!(condition)) {                                                     \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                              \
    }                                                                       \
  } while (0)

#define CHECK_EQUAL(found, expected)                                                                          \
  do {                                                                                                        \
    const long long found_ = (found), expected_ = (expected);                                                 \
    if (found_ != expected_) {                                                                                \
      fprintf(stderr, "%s:%d: %s is %lld, expected %lld\n", __FILE__, __LINE__, #found, found_, expected_);   \
      exit(1);                                                                                                \
    }                                                                                                         \
  } while (0)

static uint32_t random_state = 2463534242u;

static inline uint32_t random_u32(void) { /* xorshift32 */
  random_state ^= random_state << 13;
  random_state ^= random_state >> 17;
  random_state ^= random_state << 5;
  return random_state;
}

/* low <= result <= high */
static inline int32_t random_between(int32_t low, int32_t high) {
  return (int32_t)(low + (int64_t)(random_u32() % (uint64_t)((int64_t)high - low + 1)));
}

static inline int8_t random_s8(void) {
  const uint32_t kind = random_u32() % 8;
  return (int8_t)(kind == 0 ? INT8_MIN : kind == 1 ? INT8_MAX : random_between(INT8_MIN, INT8_MAX));
}

static inline void random_fill(int8_t *at, size_t count) {
  for (size_t i = 0; i < count; i++) {
    at[i] = random_s8();
  }
}

/* A heap buffer of exactly `bytes`, so that AddressSanitizer sees a read or write beyond it, filled with a pattern. */
static inline void *exact_buffer(size_t bytes) {
  void *buffer = malloc(bytes > 0 ? bytes : 1);
  CHECK(buffer != NULL);
  memset(buffer, 0xA5, bytes);
  return buffer;
}

enum { GUARD = 32 };

/* An output buffer with guard bytes around it, for builds without AddressSanitizer too. */
static inline int8_t *guarded(size_t bytes) { return (int8_t *)exact_buffer(bytes + 2 * GUARD) + GUARD; }

static inline void check_guards(int8_t *buffer, size_t bytes) {
  const uint8_t *before = (const uint8_t *)buffer - GUARD, *after = (const uint8_t *)buffer + bytes;
  for (int i = 0; i < GUARD; i++) {
    CHECK_EQUAL(before[i], 0xA5);
    CHECK_EQUAL(after[i], 0xA5);
  }
  free(buffer - GUARD);
}

/* round(x * multiplier / 2^31) with halves up, by division, then / 2^-shift with halves away from zero. */
static inline int64_t slow_requantize(int32_t x, int32_t multiplier, int32_t shift) {
  const int64_t shifted = shift > 0 ? (int32_t)((uint32_t)x << shift) : x;
  const int64_t product = shifted * multiplier;
  const int64_t high = product >= 0 ? (product + (1 << 30)) / (INT64_C(1) << 31) : (product + 1 - (1 << 30)) / (INT64_C(1) << 31);
  if (shift >= 0) {
    return high;
  }
  const int64_t by = INT64_C(1) << -shift;
  return high >= 0 ? (high + by / 2) / by : -((-high + by / 2) / by);
}

static inline int64_t clamp(int64_t x, int64_t low, int64_t high) { return x < low ? low : x > high ? high : x; }

#endif
