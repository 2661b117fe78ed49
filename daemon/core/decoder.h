/* What decoders may use: the configured limits, and large windows out of the memory that all of the
 * process share.
 */
#pragma once

#include <stdbool.h>

#include "daemon/image/codec.h"

struct ld_core;

/* Not to be moved; alive as long as the decoder that was opened with `limits`. */
struct ld_decoder_limits {
    struct ld_codec_limits limits;
    struct ld_codec_budget budget;
    struct ld_core *core;
    const bool *cancel;
};

/* cancel: borrowed, NULL: none. It ends the wait for memory that others have. Any thread. */
void ld_decoder_limits_init(struct ld_decoder_limits *ret, struct ld_core *core,
                            const bool *cancel);
