/* Between codec.c and the file of each format; nobody else includes it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/image/codec.h"

/* What a step takes from `in` and puts into `out` it takes off these. */
struct ld_codec_io {
    const uint8_t *in;
    size_t in_len;
    uint8_t *out;
    size_t out_len; /* > 0 on entry */
    bool at_end;    /* nothing follows `in` */
};

enum { LD_CODEC_HEADER = 18 }; /* the longest frame header, zstd's */

struct ld_codec_impl {
    /* Cannot fail but for memory: NULL. limits outlive the state. */
    void *(*new)(const struct ld_codec_limits *limits);
    /* Decodes some. 1: a member has ended and all of it is out; 0: go on; -1. When a member begins,
     * at least LD_CODEC_HEADER bytes are in `in` unless at_end. */
    int (*step)(void *state, struct ld_codec_io *io, struct ld_err *err);
    void (*free)(void *state);
};

extern const struct ld_codec_impl ld_codec_gzip, ld_codec_zstd, ld_codec_xz, ld_codec_bzip2;

/* bad_content: "FORMAT data is damaged (WHY)"; what follows the last member is not another one. */
int ld_codec_damaged(enum ld_codec codec, const char *why, struct ld_err *err);
int ld_codec_garbage(enum ld_codec codec, struct ld_err *err);

/* Memory for a window above the free size, taken once from the budget and given back when released.
 */
struct ld_codec_window {
    const struct ld_codec_limits *limits;
    uint64_t taken;
};
/* Makes sure that `bytes` may be used; a window that is too large is bad_content naming the limit.
 */
int ld_codec_window_need(struct ld_codec_window *window, uint64_t bytes, struct ld_err *err);
void ld_codec_window_give(struct ld_codec_window *window);
