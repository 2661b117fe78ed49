/* Records held against the disk and the kernel: one look at each, no walk of contents. Changes
 * nothing, holds no keys. Blocking; any worker.
 *
 * What is under way meanwhile (an import, a removal, a freeze) is no finding: whatever looks wrong
 * is looked at again, record first.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/err.h"

struct ld_core;

enum { LD_MAX_FINDINGS = 1000 };

/* `kind` is that of the object: "layer", "container", "volume", "mount", "store"; "file" is a name
 * below the data root that no record knows. */
struct ld_finding {
    const char *kind;
    char *id;      /* of the object; of a file its path below the data root; or NULL */
    char *name;    /* or NULL */
    char *problem; /* a sentence */
    const char *hint;
};

struct ld_check {
    uint64_t layers, containers, volumes, mounts; /* looked at */
    struct ld_finding *finding;
    size_t n_findings, cap_findings;
    bool is_cut; /* there are more than LD_MAX_FINDINGS */
};
int ld_check_run(struct ld_core *core, const bool *cancel, struct ld_check *ret,
                 struct ld_err *err) ld_must_check;
void ld_check_done(struct ld_check *check);
