/* A tar into a volume: see volume_import.h. */
#include "daemon/core/volume_import.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/quota.h"
#include "daemon/base/tree.h"
#include "daemon/core/decoder.h"
#include "daemon/core/files.h"
#include "daemon/core/spool.h"
#include "daemon/core/state.h"
#include "daemon/core/trash.h"
#include "daemon/core/volume.h"
#include "daemon/core/writable.h"
#include "daemon/image/source.h"

enum { RULES = LD_UNPACK_SELF | LD_UNPACK_STRICT | LD_UNPACK_ANY_DIRS };

struct import {
    struct ld_core *core;
    const struct ld_write *w;
    struct ld_volume volume;
    const struct ld_spool *spool;
    const bool *cancel;
    struct ld_files_result result;
    bool staged;
};

char *ld_volume_import_json(const struct ld_volume_import *result)
{
    return ld_asprintf("{\"entries\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"staged\":%s}",
                       result->entries, result->bytes, result->staged ? "true" : "false");
}

/* ---- the archive ---- */

/* The archive from its start, decoded: read once for each pass. */
struct archive {
    struct ld_decoder_limits limits;
    struct ld_source *raw, *decoded;
};

static int open_archive(const struct import *imp, struct archive *a, struct ld_err *err)
{
    a->raw = ld_source_fd_new(imp->spool->fd, 0, LD_TO_END);
    ld_decoder_limits_init(&a->limits, imp->core, imp->cancel);
    return ld_decoder_new(a->raw, &a->limits.limits, &a->decoded, err);
}

static void close_archive(struct archive *a)
{
    ld_source_free_p(&a->decoded);
    ld_source_free_p(&a->raw);
}

static int check(const struct import *imp, struct ld_err *err)
{
    LD_AUTO(close_archive) struct archive a = {.raw = NULL};

    return open_archive(imp, &a, err) < 0 ? -1
                                          : ld_files_check_tar(a.decoded, RULES, imp->cancel, err);
}

static int finish(const struct import *imp, const struct ld_files_root *root, struct ld_err *err)
{
    LD_AUTO(close_archive) struct archive a = {.raw = NULL};

    return open_archive(imp, &a, err) < 0
               ? -1
               : ld_files_finish_tar(root, "/", a.decoded, RULES, imp->cancel, err);
}

/* All of it on the disk when it returns. */
static int unpack(struct import *imp, int dir, struct ld_err *err)
{
    LD_AUTO(close_archive) struct archive a = {.raw = NULL};
    struct ld_files_root root = {.fd = dir, .what = "volume"};

    if (open_archive(imp, &a, err) < 0 ||
        ld_files_write_tar(&root, "/", a.decoded, RULES, imp->cancel, &imp->result, err) < 0)
        return -1;
    return imp->result.dirs_left ? finish(imp, &root, err) : 0;
}

/* ---- the record ---- */

static int record(struct import *imp, struct ld_err *err)
{
    struct ld_volume_import result = {
        .entries = imp->result.entries, .bytes = imp->result.bytes, .staged = imp->staged};
    autofree char *json = ld_volume_import_json(&result);
    struct ld_write w = *imp->w;
    struct ld_once once;

    if (w.once) {
        once = *w.once;
        once.answer = json;
        w.once = &once;
    }
    return ld_store_volume_imported(imp->core->store, &w, imp->volume.id, json, err);
}

/* ---- into a volume with content, or in use ---- */

static int import_in_place(struct import *imp, struct ld_err *err)
{
    struct ld_volume_view view = {.fd = -EBADF};
    char details[64];
    int rc;

    if (check(imp, err) < 0 || ld_volume_view(imp->core, imp->volume.id, &view, err) < 0)
        return -1;
    rc = unpack(imp, view.fd, err);
    ld_volume_view_close(&view);
    if (rc == 0)
        return record(imp, err);
    (void)snprintf(details, sizeof(details), "{\"entries\":%" PRIu64 "}",
                   imp->result.entries); /* a number fits */
    (void)ld_err_hint(err, "the entries before it are in the volume");
    return ld_err_details(err, details);
}

/* ---- into an empty one ---- */

static int look(const struct import *imp, bool *ret_staged, struct ld_err *err)
{
    LD_AUTO(ld_users_done) struct ld_users users = {.n = 0};
    int r = ld_dir_is_empty(imp->core->root.volumes_fd, ld_sid_name(imp->volume.sid).text);

    if (r < 0)
        return ld_err_sys(err, r, "look into the volume");
    if (ld_volume_mounters(imp->core, imp->volume.id, &users, err) < 0)
        return -1;
    *ret_staged = r == 1 && users.n == 0;
    return 0;
}

/* The directory as it is, but for what goes into it. */
static int stage(const struct import *imp, const char *aside, int *ret_dir, struct ld_err *err)
{
    const struct ld_root *root = &imp->core->root;
    struct ld_sid_text name = ld_sid_name(imp->volume.sid);
    struct ld_node node = {
        .path = "/", .name = name.text, .depth = 1, .dir = root->volumes_fd, .form = LD_FORM_PLAIN};
    autoclose int dir = -EBADF, volume = ld_open_dir(root->volumes_fd, name.text);
    int r = volume < 0 ? volume : ld_remove_tree(root->staging_fd, aside, NULL);

    dir = r < 0 ? r
                : ld_quota_make_like(&imp->core->env.quota, root->staging_fd, aside, 0700,
                                     imp->volume.sid, volume);
    if (dir < 0)
        return ld_err_sys(err, dir, "stage the import");
    if (fstatat(root->volumes_fd, name.text, &node.st, AT_SYMLINK_NOFOLLOW) < 0)
        return ld_err_sys(err, -errno, "look at the volume");
    if (ld_node_copy_attrs(&node, dir, LD_FORM_PLAIN, err) < 0)
        return -1;
    *ret_dir = ld_steal_fd(&dir);
    return 0;
}

static int exchange(const struct import *imp, const char *aside)
{
    const struct ld_root *root = &imp->core->root;
    struct ld_sid_text name = ld_sid_name(imp->volume.sid);

    return renameat2(root->staging_fd, aside, root->volumes_fd, name.text, RENAME_EXCHANGE) < 0
               ? -errno
               : ld_fsync(root->volumes_fd);
}

/* The full directory takes the place of the empty one; a kill leaves one or the other. Whoever
 * holds the volume in another mount namespace may have written to it: then it keeps its place. */
static int show(struct import *imp, const char *aside, struct ld_err *err)
{
    int r = exchange(imp, aside), rc;

    if (r < 0)
        return ld_err_sys(err, r, "put the import in place");
    r = ld_dir_is_empty(imp->core->root.staging_fd, aside);
    if (r == 1)
        rc = record(imp, err);
    else
        rc = r < 0 ? ld_err_sys(err, r, "look into the volume")
                   : ld_err_set(err, LD_E_CONFLICT, "it is not empty any more");
    if (rc < 0 && !ld_is_undecided(err))
        (void)!exchange(imp, aside);
    return rc;
}

static int import_staged(struct import *imp, struct ld_err *err)
{
    autofree char *aside = ld_asprintf("import-%s", ld_sid_name(imp->volume.sid).text);
    autoclose int dir = -EBADF;
    int rc = stage(imp, aside, &dir, err);

    if (rc == 0)
        rc = unpack(imp, dir, err);
    ld_close_p(&dir);
    if (rc == 0)
        rc = show(imp, aside, err);
    ld_trash_discard(imp->core, imp->core->root.staging_fd, aside);
    ld_core_kick_reaper(imp->core);
    return rc;
}

int ld_volume_import(struct ld_core *core, const struct ld_write *w, const char *id,
                     const struct ld_spool *spool, const bool *cancel, struct ld_volume_import *ret,
                     struct ld_err *err)
{
    struct import imp = {.core = core, .w = w, .spool = spool, .cancel = cancel};
    struct ld_volume *v = &imp.volume;
    int rc;

    if (ld_store_volume_get(core->store, id, v, err) < 0)
        return -1;
    if (v->damage)
        rc = ld_err_set(err, LD_E_CORRUPT, "it is damaged: %s", v->damage);
    else
        rc = look(&imp, &imp.staged, err);
    if (rc == 0)
        rc = imp.staged ? import_staged(&imp, err) : import_in_place(&imp, err);
    if (rc < 0)
        (void)ld_err_prefix(err, "volume '%s'", v->name ? v->name : v->id);
    else
        *ret = (struct ld_volume_import){
            .entries = imp.result.entries, .bytes = imp.result.bytes, .staged = imp.staged};
    ld_volume_done(v);
    return rc;
}
