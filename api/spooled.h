/* Long work on a body that is spooled first (see api/work.h): of imports. */
#pragma once

#include "api/work.h"
#include "daemon/core/spool.h"

struct ld_spooled {
    struct ld_work work;
    struct ld_spool spool; /* whole, once take has returned */
    uint64_t length;       /* of the body; 0: not known */
};

/* As ld_work_new; kind->size begins with a struct ld_spooled. */
void *ld_spooled_new(const struct ld_work_kind *kind, struct ld_request *req);
/* For the kind: */
int ld_spooled_take(struct ld_work *work, struct ld_err *err);
void ld_spooled_drop(struct ld_work *work);
void ld_spooled_free(struct ld_work *work);
