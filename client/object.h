/* Single objects: where they are in the API, and showing them. One thread. */
#pragma once

#include "client/cli.h"
#include "daemon/base/buf.h"

struct cJSON;

enum ld_kind {
    LD_KIND_CONTAINER,
    LD_KIND_IMAGE,
    LD_KIND_VOLUME,
    LD_KIND_LAYER,
    LD_KIND_JOB,
    LD_KIND_TRASH
};

/* What messages call it: "container". */
const char *ld_object_noun(enum ld_kind kind);

/* Appends "/v1/KIND/NAME" and, where tail is not NULL, "/TAIL". LD_E_INVALID for an empty name,
 * which would be another resource. */
int ld_object_url(enum ld_kind kind, const char *name, const char *tail, struct ld_buf *url,
                  struct ld_err *err) ld_must_check;

/* GET of a document that a command prints in its own way: ret is that, and the caller's. With
 * --format json it is printed here, as the daemon sent it, and *ret stays NULL. */
int ld_object_get(struct ld_cli *cli, const char *target, struct cJSON **ret,
                  struct ld_err *err) ld_must_check;
/* GET of a document that is printed as it is: indented, or with --format json as it was sent. */
int ld_object_print(struct ld_cli *cli, const char *target, struct ld_err *err) ld_must_check;
/* Shows one object as an indented document, or with --format json as the daemon sent it. */
int ld_object_show(struct ld_cli *cli, enum ld_kind kind, const char *name, bool with_size,
                   struct ld_err *err) ld_must_check;
