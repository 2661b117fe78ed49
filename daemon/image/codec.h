/* Decompression as a source: gzip, zstd, xz, bzip2, told apart by their first bytes.
 *
 * Everything that the command line tools read as one stream is one stream here: gzip members, zstd
 * frames (skippable ones too), xz streams with padding, bzip2 streams. Zeros after the last gzip
 * member are padding. Anything else that follows and is not another member is an error: the digest
 * of such a blob would cover bytes that nobody has looked at.
 *
 * Memory is bounded: a 256 KiB input buffer plus the format's window.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/image/source.h"

enum ld_codec { LD_CODEC_NONE, LD_CODEC_GZIP, LD_CODEC_ZSTD, LD_CODEC_XZ, LD_CODEC_BZIP2 };

enum { LD_CODEC_HEAD = 6 }; /* bytes that `detect` wants to see; fewer are fine */

const char *ld_codec_name(enum ld_codec codec); /* "none", "gzip", … */
enum ld_codec ld_codec_detect(const void *head, size_t len);

/* Windows up to this size always work. */
#define LD_CODEC_FREE_WINDOW (UINT64_C(8) << 20)
/* Memory for windows above LD_CODEC_FREE_WINDOW, shared by all decoders of the process. `take` may
 * block until there is enough and fails only for good (cancelled); `give` returns it. */
struct ld_codec_budget {
    int (*take)(void *arg, uint64_t bytes, struct ld_err *err);
    void (*give)(void *arg, uint64_t bytes);
    void *arg;
};

struct ld_codec_limits {
    uint64_t max_window; /* larger ones are bad_content; below LD_CODEC_FREE_WINDOW: that */
    uint64_t max_output; /* bytes; 0: none */
    uint64_t max_ratio;  /* output : input, beyond ratio_from bytes of output; 0: none */
    uint64_t ratio_from; /* smaller bombs are harmless, honest small files may be all zeros */
    const struct ld_codec_budget *budget; /* borrowed; NULL: large windows need not ask */
};

/* Reads the first bytes of `below` (borrowed) and gives a source of the decoded bytes: the bytes
 * themselves when no format is recognised. Errors of the new source: bad_content for damaged or
 * truncated input and for what is over a limit, unavailable without memory. */
int ld_decoder_new(struct ld_source *below, const struct ld_codec_limits *limits,
                   struct ld_source **ret, struct ld_err *err);
enum ld_codec ld_decoder_codec(const struct ld_source *decoder);
