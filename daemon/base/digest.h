/* SHA-256 (OpenSSL, which uses the CPU's SHA instructions) and its text form "sha256:HEX". */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/cleanup.h"

struct ld_digest {
    uint8_t bytes[32];
};

enum { LD_DIGEST_TEXT = 7 + 64 + 1 }; /* "sha256:" + hex + NUL */

/* A running hash. `new` aborts without memory, `final` gives the digest and starts over. */
struct ld_sha256;
struct ld_sha256 *ld_sha256_new(void);
void ld_sha256_update(struct ld_sha256 *h, const void *data, size_t len);
struct ld_digest ld_sha256_final(struct ld_sha256 *h);
void ld_sha256_free_p(struct ld_sha256 **h);

struct ld_digest ld_digest_of(const void *data, size_t len);
bool ld_digest_equal(const struct ld_digest *a, const struct ld_digest *b);

/* "sha256:" and 64 lower-case hex digits; anything else: -EINVAL (an algorithm we lack:
 * -EOPNOTSUPP). */
int ld_digest_parse(const char *text, struct ld_digest *ret) ld_must_check;
void ld_digest_format(const struct ld_digest *d, char text[LD_DIGEST_TEXT]);

/* OCI image spec, "Layer ChainID": chain(L0) = diff(L0), chain(n) = sha256(chain(n-1) " " diff(n)).
 * parent NULL: the lowest layer. */
struct ld_digest ld_chain_id(const struct ld_digest *parent, const struct ld_digest *diff);

/* n random bytes as 2n hex digits and a NUL (getrandom; cannot fail on a running system). */
void ld_random_hex(char *text, size_t n);
