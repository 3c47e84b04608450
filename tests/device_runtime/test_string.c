/* The stand-ins for <string.h> against the C library's, compiled under other names. */
#include "tml_test.h"

#undef memcpy
#undef memmove
#undef memset
#undef memcmp
#undef strlen
void *tml_memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *tml_memmove(void *to, const void *from, size_t bytes);
void *tml_memset(void *at, int value, size_t bytes);
int tml_memcmp(const void *a, const void *b, size_t bytes);
size_t tml_strlen(const char *text);

static int sign(int x) { return (x > 0) - (x < 0); }

int main(void) {
  for (int i = 0; i < 20000; i++) {
    enum { SIZE = 48 };
    int8_t ours[SIZE], theirs[SIZE];
    random_fill(ours, SIZE);
    memcpy(theirs, ours, SIZE);
    const size_t bytes = random_u32() % (SIZE / 2 + 1), to = random_u32() % (SIZE / 2), from = random_u32() % (SIZE / 2);
    CHECK(tml_memmove(ours + to, ours + from, bytes) == ours + to);
    memmove(theirs + to, theirs + from, bytes);
    CHECK(memcmp(ours, theirs, SIZE) == 0);
    CHECK(tml_memset(ours + to, i, bytes) == ours + to);
    memset(theirs + to, i, bytes);
    CHECK(memcmp(ours, theirs, SIZE) == 0);
    CHECK_EQUAL(sign(tml_memcmp(ours + to, ours + from, bytes)), sign(memcmp(ours + to, ours + from, bytes)));
    int8_t copy[SIZE];
    CHECK(tml_memcpy(copy, ours, SIZE) == copy);
    CHECK(memcmp(copy, ours, SIZE) == 0);
    copy[bytes] = 0;
    CHECK_EQUAL(tml_strlen((const char *)copy), strlen((const char *)copy));
  }
  return 0;
}
