/* Digests: see digest.h. */
#include "daemon/base/digest.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

/* The plain functions: EVP's are the same code after a lookup that loads the provider with all its
 * algorithms, which costs every daemon 2 MiB for this one. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include "daemon/base/mem.h"
#include "daemon/base/parse.h"

struct ld_sha256 {
    SHA256_CTX ctx;
};

static void must(int ok)
{
    if (!ok)
        abort(); /* SHA-256 of memory does not fail */
}

struct ld_sha256 *ld_sha256_new(void)
{
    struct ld_sha256 *h = ld_new(struct ld_sha256);

    must(SHA256_Init(&h->ctx));
    return h;
}

void ld_sha256_update(struct ld_sha256 *h, const void *data, size_t len)
{
    must(SHA256_Update(&h->ctx, data, len));
}

struct ld_digest ld_sha256_final(struct ld_sha256 *h)
{
    struct ld_digest d;

    must(SHA256_Final(d.bytes, &h->ctx));
    must(SHA256_Init(&h->ctx));
    return d;
}

void ld_sha256_free_p(struct ld_sha256 **h)
{
    if (*h) {
        free(*h);
        *h = NULL;
    }
}

struct ld_digest ld_digest_of(const void *data, size_t len)
{
    LD_AUTO(ld_sha256_free_p) struct ld_sha256 *h = ld_sha256_new();

    ld_sha256_update(h, data, len);
    return ld_sha256_final(h);
}

bool ld_digest_equal(const struct ld_digest *a, const struct ld_digest *b)
{
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

static unsigned hex_value(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
}

static void hex(const uint8_t *bytes, size_t n, char *text)
{
    static const char digit[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        text[2 * i] = digit[bytes[i] >> 4];
        text[2 * i + 1] = digit[bytes[i] & 15];
    }
    text[2 * n] = '\0';
}

int ld_digest_parse(const char *text, struct ld_digest *ret)
{
    const char *digits = text + 7;

    if (strncmp(text, "sha256:", 7) != 0)
        return strncmp(text, "sha512:", 7) == 0 ? -EOPNOTSUPP : -EINVAL;
    if (!ld_is_hex(digits, 64))
        return -EINVAL;
    for (size_t i = 0; i < sizeof(ret->bytes); i++)
        ret->bytes[i] = (uint8_t)(hex_value(digits[2 * i]) << 4 | hex_value(digits[2 * i + 1]));
    return 0;
}

void ld_digest_format(const struct ld_digest *d, char text[LD_DIGEST_TEXT])
{
    memcpy(text, "sha256:", 7);
    hex(d->bytes, sizeof(d->bytes), text + 7);
}

struct ld_digest ld_chain_id(const struct ld_digest *parent, const struct ld_digest *diff)
{
    char text[2 * LD_DIGEST_TEXT];

    if (!parent)
        return *diff;
    ld_digest_format(parent, text);
    text[LD_DIGEST_TEXT - 1] = ' ';
    ld_digest_format(diff, text + LD_DIGEST_TEXT);
    return ld_digest_of(text, 2 * LD_DIGEST_TEXT - 1);
}

void ld_random_hex(char *text, size_t n)
{
    uint8_t bytes[64];

    for (size_t done = 0; done < n;) {
        size_t want = n - done < sizeof(bytes) ? n - done : sizeof(bytes);
        ssize_t got = getrandom(bytes, want, 0);

        if (got < 0 && errno == EINTR)
            continue;
        must(got > 0);
        hex(bytes, (size_t)got, text + 2 * done);
        done += (size_t)got;
    }
}
