/* A streamed reply as a sink: see stream_sink.h. */
#include "api/stream_sink.h"

static int sink_write(struct ld_sink *sink, const void *data, size_t len, struct ld_err *err)
{
    return ld_stream_write(((struct ld_stream_sink *)sink)->stream, data, len, err);
}

struct ld_stream_sink ld_stream_sink(struct ld_stream *stream)
{
    static const struct ld_sink_ops ops = {.write = sink_write};

    return (struct ld_stream_sink){.sink.ops = &ops, .stream = stream};
}
