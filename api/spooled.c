#include "api/spooled.h"

#include "api/request.h"

void *ld_spooled_new(const struct ld_work_kind *kind, struct ld_request *req)
{
    struct ld_spooled *spooled = ld_work_new(kind, req);
    uint64_t length = ld_request_length(req);

    spooled->spool = LD_SPOOL_INIT;
    spooled->length = length == UINT64_MAX ? 0 : length;
    return spooled;
}

static void tell(void *arg, uint64_t size)
{
    struct ld_spooled *spooled = arg;

    ld_work_tell(&spooled->work, "spool", NULL, size, spooled->length);
}

int ld_spooled_take(struct ld_work *work, struct ld_err *err)
{
    struct ld_spooled *spooled = (struct ld_spooled *)work;
    struct ld_digest digest = {.bytes = {0}};
    bool is_once = ld_once_is_given(&work->once);
    struct ld_spool_options options = {.progress = tell,
                                       .progress_arg = spooled,
                                       .cancel = work->cancel,
                                       .digest = is_once ? &digest : NULL};

    if (ld_spool_ring(work->core, work->ring, &options, &spooled->spool, err) < 0)
        return -1;
    if (is_once)
        ld_once_add_body(&work->once, &digest);
    return 0;
}

void ld_spooled_drop(struct ld_work *work)
{
    ld_spool_close(&((struct ld_spooled *)work)->spool); /* of a large file: not on the loop */
}

void ld_spooled_free(struct ld_work *work)
{
    ld_spool_close(&((struct ld_spooled *)work)->spool);
}
