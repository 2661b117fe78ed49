/* Committing a container: see commit.h.
 *
 * The layer is made in staging/ as an import's is: captured from the container, packed (packing
 * gives its diff ID and recipe), synced. From there on it is an import of one image whose topmost
 * layer is settled already: that looks the layers up, waits for others who make the same one,
 * publishes and records (import_impl.h).
 */
#include "daemon/core/commit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/base/clock.h"
#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/core/capture.h"
#include "daemon/core/import_impl.h"
#include "daemon/core/layer_names.h"
#include "daemon/core/layer_pack.h"
#include "daemon/core/move.h"
#include "daemon/core/own.h"
#include "daemon/core/rootfs.h"
#include "daemon/core/state.h"
#include "daemon/image/archive.h"
#include "daemon/image/change.h"
#include "daemon/image/oci.h"
#include "daemon/image/oci_commit.h"
#include "daemon/image/ref.h"
#include "daemon/jobs/lane.h"

enum { MAX_ATTEMPTS = 5, NS = 1000000000 };

struct commit {
    struct ld_core *core;
    const struct ld_commit_spec *spec;
    struct ld_container container;
    struct ld_loaded_rootfs rootfs;
    struct ld_image base;
    struct ld_oci_config base_config;
    struct ld_import_options options;
    struct ld_archive_image shape; /* of the new image: how many layers, which names */
    char ref[LD_REFERENCE_TEXT];
    char *name; /* points to it */
    struct ld_import imp;
    bool is_changed;
    bool has_left_out;    /* something of the container is not in the layer */
    bool has_other_times; /* something is older in the layer than in the container */
    bool is_idle;         /* nobody uses the container, for as long as its key is held */
};

static void commit_done(struct commit *c)
{
    ld_import_done(&c->imp);
    ld_oci_config_done(&c->base_config);
    ld_image_done(&c->base);
    ld_rootfs_done(&c->rootfs);
    ld_container_done(&c->container);
}

static int read_ref(const char *text, char full[LD_REFERENCE_TEXT], struct ld_err *err)
{
    struct ld_reference ref;

    if (ld_reference_parse(text, &ref, err) < 0)
        return -1;
    if (ref.digest[0])
        return ld_err_set(err, LD_E_INVALID,
                          "'%.200s': an image cannot be given a digest as its name", text);
    ld_reference_format(&ref, full);
    return 0;
}

int ld_commit_check(const struct ld_commit_spec *spec, struct ld_err *err)
{
    char full[LD_REFERENCE_TEXT];

    if (spec->ref && read_ref(spec->ref, full, err) < 0)
        return -1;
    for (size_t i = 0; i < spec->n_changes; i++) {
        if (ld_change_check(spec->changes[i], err) < 0)
            return -1;
    }
    return 0;
}

/* ---- what it starts from ---- */

static int load_base(struct commit *c, struct ld_err *err)
{
    const char *id = c->container.image_id;
    struct ld_err why = LD_ERR_INIT;

    if (id && ld_store_image_get(c->core->store, id, &c->base, &why) == 0)
        return ld_oci_config_parse(c->base.config, c->base.config_len, id, &c->base_config, err);
    if (id && why.code != LD_E_NOT_FOUND) {
        *err = why;
        return -1;
    }
    (void)ld_err_set(err, LD_E_CONFLICT, "its image %.19s was removed, and with it the config",
                     id ? id : "(none)");
    return ld_err_hint(err, "import that image again, then commit");
}

static int load(struct commit *c, const char *id, struct ld_err *err)
{
    size_t n_base;

    if (ld_core_may_grow(c->core, 0, err) < 0 ||
        ld_store_container_get(c->core->store, id, &c->container, err) < 0 ||
        load_base(c, err) < 0 || ld_rootfs_load(c->core, &c->container, true, &c->rootfs, err) < 0)
        return -1;
    n_base = c->rootfs.chain.n - c->rootfs.fs.writable.n_own;
    if (n_base != c->base_config.n_layers)
        return ld_err_set(err, LD_E_CORRUPT, "image %s: its config names %zu layers, it has %zu",
                          c->base.id, c->base_config.n_layers, n_base);
    if (c->spec->squash || n_base < LD_MAX_LAYERS)
        return 0;
    (void)ld_err_set(err, LD_E_CONFLICT, "its image has %d layers, as many as one can have",
                     LD_MAX_LAYERS);
    return ld_err_hint(err, "squash it");
}

/* ---- the layer ---- */

/* Nobody can write to it until it is let go. */
static int hold(struct commit *c, struct ld_err *err)
{
    struct ld_mounts *mounts = c->core->mounts;
    const struct ld_rootfs *fs = &c->rootfs.fs;
    enum ld_mount_state state = ld_mounts_settle(mounts, fs);

    c->is_idle = state == LD_UNMOUNTED;
    if (state == LD_HELD) {
        (void)ld_err_set(err, LD_E_BUSY, "it is held by a process in another mount namespace");
        return ld_err_hint(err, "end that process, then try again");
    }
    if (!fs->driver->seal) {
        if (ld_mounts_state(mounts, fs->id, fs->writable.sid) != LD_MOUNTED)
            return 0;
        (void)ld_err_set(err, LD_E_BUSY, "it is mounted");
        return ld_err_hint(err, "unmount it: the driver '%s' can't keep it still",
                           fs->driver->name);
    }
    if (ld_mounts_quiesce(mounts, fs, err) == 0)
        return 0;
    return err->code == LD_E_BUSY ? ld_err_hint(err, "end what writes to it, or unmount it") : -1;
}

static void let_go(struct commit *c)
{
    if (c->rootfs.fs.driver->seal)
        ld_mounts_resume(c->core->mounts, &c->rootfs.fs);
}

static int copy_whole(struct commit *c, int dir, const bool *cancel, struct ld_err *err)
{
    static const struct ld_layers nothing = {.n = 0};
    const struct ld_rootfs *fs = &c->rootfs.fs;
    LD_AUTO(ld_own_close) struct ld_own own = {.fd = NULL};

    c->is_changed = true;
    if (ld_own_open_whole(fs->env, fs->driver, &fs->writable, &own, err) < 0)
        return -1;
    return ld_tree_copy_layer(&own.layers, &nothing, dir, LD_COPY_NO_SOCKETS, cancel, err);
}

static int copy_changes(struct commit *c, int dir, const bool *cancel, struct ld_err *err)
{
    const struct ld_rootfs *fs = &c->rootfs.fs;
    struct ld_capture_from from = {.env = fs->env,
                                   .driver = fs->driver,
                                   .writable = fs->writable,
                                   .for_image = true,
                                   .left_out = &c->has_left_out,
                                   .cancel = cancel};

    return ld_capture_tree(&from, dir, &c->is_changed, err);
}

/* What was changed after the image was made, by its own word, is as old as that. */
static int cap_times(struct commit *c, int dir, const bool *cancel, struct ld_err *err)
{
    const struct ld_layers layer = {.root = &dir, .n = 1, .form = LD_FORM_LAYER};
    struct ld_tree *tree LD_AUTO(ld_tree_free_p) = ld_tree_new(&layer, LD_TREE_NO_LEAVE, cancel);
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = *c->spec->created_s}};
    struct ld_node node;
    int rc;

    while ((rc = ld_tree_next(tree, &node, err)) > 0) {
        const struct timespec *t = &node.st.st_mtim;

        if (t->tv_sec < times[1].tv_sec || (t->tv_sec == times[1].tv_sec && t->tv_nsec == 0))
            continue;
        if (utimensat(node.dir, node.name, times, AT_SYMLINK_NOFOLLOW) < 0)
            return ld_err_sys(err, -errno, "set the time of '%s'", node.path);
        c->has_other_times = true;
    }
    return rc;
}

static int capture(struct commit *c, int dir, const bool *cancel, struct ld_err *err)
{
    int rc;

    ld_import_tell(&c->imp, "capture", NULL, 0, 0);
    if (hold(c, err) < 0)
        return -1;
    rc = c->spec->squash ? copy_whole(c, dir, cancel, err) : copy_changes(c, dir, cancel, err);
    let_go(c);
    return rc == 0 && c->spec->created_s ? cap_times(c, dir, cancel, err) : rc;
}

static void tell_packed(void *arg, uint64_t bytes)
{
    const struct commit *c = arg;

    ld_import_tell(&c->imp, "pack", NULL, bytes, 0);
}

static int pack(struct commit *c, struct ld_import_task *task, int dir, const bool *cancel,
                struct ld_err *err)
{
    struct ld_layer_name recipe = ld_layer_name(task->staged_sid, ".recipe");
    autoclose int fd = openat(c->core->root.staging_fd, recipe.text,
                              O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct ld_layer_packing packing = {.root_fd = dir,
                                       .recipe_fd = fd,
                                       .is_whole = c->spec->squash,
                                       .cancel = cancel,
                                       .progress = tell_packed,
                                       .progress_arg = c};

    if (fd < 0)
        return ld_err_sys(err, -errno, "make 'staging/%s'", recipe.text);
    return ld_layer_pack(&packing, &task->diff_id, err);
}

/* On the copy lane, which bounds how many work at the same time. */
static int make_layer(void *arg, size_t index, const bool *cancel, struct ld_err *err)
{
    struct commit *c = arg;
    struct ld_import_task *task = &c->imp.tasks[c->imp.n_tasks - 1];
    struct ld_layer_name name;
    autoclose int dir = -EBADF;

    (void)index;
    if (ld_store_take_sid(c->core->store, &task->staged_sid, err) < 0)
        return -1;
    name = ld_layer_name(task->staged_sid, "");
    dir = ld_make_dir(c->core->root.staging_fd, name.text, 0700);
    if (dir < 0)
        return ld_err_sys(err, dir, "make 'staging/%s'", name.text);
    if (capture(c, dir, cancel, err) < 0)
        return -1;
    return c->is_changed ? pack(c, task, dir, cancel, err) : 0;
}

/* Blocks that were only promised until the sync have their places after it. */
static int sync_layer(struct commit *c, struct ld_import_task *task, struct ld_err *err)
{
    struct ld_layer_name name = ld_layer_name(task->staged_sid, "");
    struct ld_usage usage = {.bytes = 0};
    int r;

    ld_import_tell(&c->imp, "record", NULL, 0, 0);
    r = ld_syncfs(c->imp.sync_fd);
    if (r == 0)
        r = ld_tree_usage(c->core->root.staging_fd, name.text, c->imp.options->cancel, &usage);
    if (r < 0)
        return ld_err_sys(err, r, "write the layer to disk");
    task->made_bytes = usage.bytes;
    task->made_inodes = usage.inodes;
    task->state = LD_TASK_SETTLED;
    return 0;
}

/* ---- the image ---- */

/* One task for each layer of the image, lowest first, the last one to be made. */
static void plan(struct commit *c)
{
    struct ld_import *imp = &c->imp;
    size_t n_base = c->spec->squash ? 0 : c->base_config.n_layers;

    imp->options = &c->options;
    imp->container = c->container.id;
    ld_grow(&imp->tasks, &imp->cap_tasks, n_base + 1, sizeof(*imp->tasks));
    imp->n_tasks = n_base + 1;
    for (size_t i = 0; i < n_base; i++) {
        struct ld_import_task *task = &imp->tasks[i];

        task->diff_id = c->base_config.diff_ids[i];
        task->chain_id = ld_chain_id(i ? &imp->tasks[i - 1].chain_id : NULL, &task->diff_id);
        task->has_chain_id = true;
    }
}

/* Without changes the image has the layers of the other one. */
static void name_layer(struct commit *c)
{
    struct ld_import *imp = &c->imp;
    struct ld_import_task *task = &imp->tasks[imp->n_tasks - 1];

    if (!c->is_changed) {
        ld_import_discard(imp, task);
        imp->n_tasks--;
        return;
    }
    task->chain_id = ld_chain_id(imp->n_tasks > 1 ? &task[-1].chain_id : NULL, &task->diff_id);
    task->has_chain_id = true;
}

static int name_image(struct commit *c, struct ld_err *err)
{
    const struct ld_commit_spec *spec = c->spec;
    struct ld_import *imp = &c->imp;
    struct ld_oci_commit commit = {.base = c->base.config,
                                   .base_len = c->base.config_len,
                                   .overrides = c->container.config,
                                   .changes = spec->changes,
                                   .n_changes = spec->n_changes,
                                   .author = spec->author,
                                   .message = spec->message,
                                   .squash = spec->squash,
                                   .created_ns =
                                       spec->created_s ? *spec->created_s * NS : ld_now_ns()};
    struct ld_import_image *image;

    if (c->is_changed)
        commit.diff_id = &imp->tasks[imp->n_tasks - 1].diff_id;
    if (spec->ref && read_ref(spec->ref, c->ref, err) < 0)
        return -1;
    c->name = c->ref;
    c->shape = (struct ld_archive_image){
        .names = &c->name, .n_names = spec->ref != NULL, .n_layers = imp->n_tasks};
    imp->images = image = ld_new(struct ld_import_image);
    imp->n_images = 1;
    image->from = &c->shape;
    image->tasks = ld_alloc0((imp->n_tasks + 1) * sizeof(*image->tasks));
    for (size_t i = 0; i < imp->n_tasks; i++)
        image->tasks[i] = (uint32_t)i;
    if (ld_oci_commit_render(&commit, &image->config, err) < 0)
        return -1;
    image->id = ld_digest_of(image->config, strlen(image->config));
    return 0;
}

/* What the container stands on is there; but it may be found damaged at any time. */
static int check_base(const struct commit *c, struct ld_err *err)
{
    for (size_t i = 0; i < c->imp.n_tasks; i++) {
        const struct ld_import_task *task = &c->imp.tasks[i];

        if (task->state == LD_TASK_NONE && task->how != LD_LAYER_REUSED) {
            (void)ld_err_set(err, LD_E_CORRUPT, "layer %zu of its image is damaged", i);
            return ld_err_hint(err, "import its image again: that repairs the layer");
        }
    }
    return 0;
}

static int record(struct commit *c, struct ld_err *err)
{
    int rc = -1;

    for (int n = 0; rc < 0 && n < MAX_ATTEMPTS; n++) {
        if (ld_import_look(&c->imp, err) < 0 || check_base(c, err) < 0)
            return -1;
        rc = ld_import_record(&c->imp, err);
        if (rc < 0 && (err->code != LD_E_CONFLICT || c->core->refusal))
            return -1;
    }
    return rc;
}

/* ---- what the container goes on with ---- */

static int move_onto(struct commit *c, ld_sid tip, struct ld_err *err)
{
    struct ld_chain_sids chain;
    struct ld_move move = {
        .container = &c->container, .driver = c->rootfs.fs.driver, .chain = &chain};

    return ld_store_chain(c->core->store, tip, &chain, err) < 0
               ? -1
               : ld_move(c->core, &LD_WRITE_SELF, &move, err);
}

/* The container goes on on top of the layer: what both say is stored once. That is for its disk use
 * alone, so it is left where it is when somebody uses it, when its tree is more than the layer can
 * say, when its own copy is elsewhere, and when the move fails: the commit has succeeded. */
static void go_on(struct commit *c)
{
    const struct ld_rootfs *fs = &c->rootfs.fs;
    ld_sid tip = c->imp.n_tasks ? c->imp.tasks[c->imp.n_tasks - 1].sid : 0;
    struct ld_err err = LD_ERR_INIT;

    if (!c->is_changed || c->has_left_out || c->has_other_times || c->spec->squash ||
        !fs->driver->seal || fs->writable.is_apart || c->container.parent_sid == tip || !c->is_idle)
        return;
    if (move_onto(c, tip, &err) < 0)
        ld_debug("container '%s' does not go on on what was committed: %s", c->container.id,
                 err.message);
}

static int run(struct commit *c, struct ld_err *err)
{
    struct ld_import *imp = &c->imp;
    struct ld_batch batch = {.fn = make_layer, .arg = c, .n = 1, .cancel = c->spec->cancel};

    plan(c);
    imp->sync_fd = openat(c->core->root.data_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (imp->sync_fd < 0)
        return ld_err_sys(err, -errno, "open the data root");
    if (ld_lanes_run_all(c->core->lanes, LD_LANE_COPY, &batch, err) < 0)
        return -1;
    name_layer(c);
    if (name_image(c, err) < 0 ||
        (c->is_changed && sync_layer(c, &imp->tasks[imp->n_tasks - 1], err) < 0))
        return -1;
    return record(c, err);
}

int ld_commit_run(struct ld_core *core, const struct ld_write *w, const char *container,
                  const struct ld_commit_spec *spec, char **ret_image, struct ld_err *err)
{
    LD_AUTO(commit_done)
    struct commit c = {.core = core,
                       .spec = spec,
                       .options = {.progress = spec->progress,
                                   .progress_arg = spec->progress_arg,
                                   .cancel = spec->cancel},
                       .imp = {.core = core, .w = w, .sync_fd = -EBADF}};
    char id[LD_DIGEST_TEXT];

    if (load(&c, container, err) < 0 || run(&c, err) < 0)
        return ld_err_prefix(err, "container '%s'",
                             c.container.name ? c.container.name : container);
    go_on(&c);
    ld_digest_format(&c.imp.images[0].id, id);
    *ret_image = ld_strdup(id);
    return 0;
}
