/* The limits of decoders: see decoder.h. */
#include "daemon/core/decoder.h"

#include "daemon/core/config.h"
#include "daemon/core/inflight.h"
#include "daemon/core/state.h"

static int take_memory(void *arg, uint64_t bytes, struct ld_err *err)
{
    struct ld_decoder_limits *limits = arg;

    return ld_inflight_take_memory(limits->core->inflight, bytes, limits->cancel, err);
}

static void give_memory(void *arg, uint64_t bytes)
{
    struct ld_decoder_limits *limits = arg;

    ld_inflight_give_memory(limits->core->inflight, bytes);
}

void ld_decoder_limits_init(struct ld_decoder_limits *ret, struct ld_core *core, const bool *cancel)
{
    const struct ld_import_limits *config = &core->config->import;

    *ret = (struct ld_decoder_limits){
        .limits = {.max_window = config->decoder_memory,
                   .max_output = config->layer_bytes,
                   .max_ratio = config->ratio,
                   .ratio_from = config->ratio_from,
                   .budget = &ret->budget},
        .budget = {.take = take_memory, .give = give_memory, .arg = ret},
        .core = core,
        .cancel = cancel,
    };
}
