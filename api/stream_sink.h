/* A streamed reply as a byte sink, for what writes archives. The producer's worker. */
#pragma once

#include "api/reply.h"
#include "daemon/image/sink.h"

struct ld_stream_sink {
    struct ld_sink sink;
    struct ld_stream *stream; /* borrowed */
};

/* Lives on its owner's stack: not to be freed. */
struct ld_stream_sink ld_stream_sink(struct ld_stream *stream);
