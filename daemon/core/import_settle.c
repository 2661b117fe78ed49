/* Settling an import's new layers, bottom to top, and making them durable. See import_impl.h. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/core/import_impl.h"
#include "daemon/image/archive.h"
#include "daemon/image/settle.h"
#include "daemon/jobs/lane.h"

/* The roots of one image's layers, topmost first: the form in which settle wants what lies below.
 */
struct roots {
    int *fd; /* n of them; -EBADF: not opened yet */
    size_t n;
};

static void roots_done(struct roots *r)
{
    for (size_t i = 0; i < r->n; i++)
        ld_close(r->fd[i]);
    ld_free_p(&r->fd);
    r->n = 0;
}

static bool is_settled(const struct ld_import_task *task)
{
    return task->how == LD_LAYER_REUSED || task->state == LD_TASK_SETTLED;
}

/* A reused layer whose image was removed since it was pinned is in the trash by now. */
static int open_root(const struct ld_import *imp, const struct ld_import_task *task,
                     struct ld_err *err)
{
    const struct ld_root *root = &imp->core->root;
    bool is_reused = task->how == LD_LAYER_REUSED;
    struct ld_sid_text name = ld_sid_name(is_reused ? task->sid : task->staged_sid);
    int fd = ld_open_dir(is_reused ? root->layers_fd : root->staging_fd, name.text);

    if (fd == -ENOENT && is_reused)
        fd = ld_open_dir(root->trash_fd, name.text);
    if (fd == -ENOENT && is_reused)
        return ld_err_set(err, LD_E_CONFLICT, "layer %s was removed meanwhile", name.text);
    return fd < 0 ? ld_err_sys(err, fd, "open layer %s", name.text) : fd;
}

static int settle_one(struct ld_import *imp, struct ld_import_task *task, const struct roots *roots,
                      size_t at, struct ld_err *err)
{
    struct ld_sid_text name = ld_sid_name(task->staged_sid);
    autofree char *aside = ld_asprintf("%s.aside", name.text);
    LD_AUTO(ld_settle_result_done) struct ld_settle_result result = {.bytes = 0};
    struct ld_settle_job job = {
        .root_fd = roots->fd[at],
        .aside_parent_fd = imp->core->root.staging_fd,
        .aside_name = aside,
        .lower = {.root = roots->fd + at + 1, .n = roots->n - at - 1, .form = LD_FORM_LAYER},
        .cancel = imp->options->cancel,
    };
    char id[LD_DIGEST_TEXT];

    ld_digest_format(&task->diff_id, id);
    if (ld_settle(&job, task->pending, &result, err) < 0)
        return ld_err_prefix(err, "layer %s", id);
    for (size_t i = 0; i < result.warnings.n; i++)
        ld_import_warn(imp, "layer %s: %s", id, result.warnings.text[i]);
    if (result.warnings.total > result.warnings.n)
        ld_import_warn(imp, "layer %s: %" PRIu64 " more warnings", id,
                       result.warnings.total - result.warnings.n);
    ld_pending_free_p(&task->pending);
    task->has_aside = result.has_aside;
    task->state = LD_TASK_SETTLED;
    return 0;
}

static int settle_image(struct ld_import *imp, const struct ld_import_image *image,
                        struct ld_err *err)
{
    size_t n = image->from->n_layers;
    size_t n_open = n; /* down to the lowest layer from the topmost one that has to be settled */
    LD_AUTO(roots_done) struct roots roots = {.fd = NULL};

    while (n_open > 0 && is_settled(&imp->tasks[image->tasks[n_open - 1]]))
        n_open--;
    if (n_open == 0)
        return 0;
    roots.fd = ld_alloc0(n_open * sizeof(*roots.fd));
    roots.n = n_open;
    for (size_t i = 0; i < n_open; i++)
        roots.fd[i] = -EBADF;
    for (size_t i = 0; i < n_open; i++) {
        struct ld_import_task *task = &imp->tasks[image->tasks[i]];
        size_t at = n_open - 1 - i;
        int fd = open_root(imp, task, err);

        if (fd < 0)
            return -1;
        roots.fd[at] = fd;
        if (is_settled(task))
            continue;
        ld_import_tell(imp, "settle", &task->diff_id, 0, 0);
        if (settle_one(imp, task, &roots, at, err) < 0)
            return -1;
    }
    return 0;
}

/* One call on the copy lane, which bounds how much of the disk's time imports may take together. */
static int settle_all(void *arg, size_t index, const bool *cancel, struct ld_err *err)
{
    struct ld_import *imp = arg;

    (void)index;
    for (size_t i = 0; i < imp->n_images; i++) {
        if (ld_flag_is_set(cancel))
            return ld_err_sys(err, -ECANCELED, "settle");
        if (settle_image(imp, &imp->images[i], err) < 0)
            return -1;
    }
    return 0;
}

/* Blocks that were only promised until then have their places after the sync: the sizes are final.
 */
static int measure(void *arg, size_t index, const bool *cancel, struct ld_err *err)
{
    struct ld_import *imp = arg;
    struct ld_import_task *task = &imp->tasks[index];
    struct ld_sid_text name = ld_sid_name(task->staged_sid);
    struct ld_usage usage;
    int r;

    if (task->state != LD_TASK_SETTLED)
        return 0;
    r = ld_tree_usage(imp->core->root.staging_fd, name.text, cancel, &usage);
    if (r < 0)
        return ld_err_sys(err, r, "measure layer %s", name.text);
    task->made_bytes = usage.bytes;
    task->made_inodes = usage.inodes;
    return 0;
}

static bool has_staged(const struct ld_import *imp)
{
    for (size_t i = 0; i < imp->n_tasks; i++) {
        if ((imp->tasks[i].state == LD_TASK_STAGED && ld_import_is_missing(&imp->tasks[i])) ||
            imp->tasks[i].has_blob)
            return true;
    }
    return false;
}

int ld_import_settle(struct ld_import *imp, struct ld_err *err)
{
    struct ld_batch settle = {.fn = settle_all, .arg = imp, .n = 1, .cancel = imp->options->cancel};
    struct ld_batch usage = {.fn = measure, .arg = imp, .n = imp->n_tasks};
    int r;

    if (!has_staged(imp))
        return 0;
    if (ld_lanes_run_all(imp->core->lanes, LD_LANE_COPY, &settle, err) < 0)
        return -1;
    ld_import_tell(imp, "record", NULL, 0, 0);
    r = ld_syncfs(imp->sync_fd);
    if (r < 0)
        return ld_err_sys(err, r, "write the layers to disk");
    return ld_lanes_run_all(imp->core->lanes, LD_LANE_COPY, &usage, err);
}
