/* Records held against the disk and the kernel: see check.h. */
#include "daemon/core/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/mountapi.h"
#include "daemon/base/parse.h"
#include "daemon/core/damage.h"
#include "daemon/core/making.h"
#include "daemon/core/parts.h"
#include "daemon/core/rootfs.h"
#include "daemon/core/state.h"
#include "daemon/jobs/lane.h"

struct check {
    struct ld_core *core;
    const bool *cancel;
    struct ld_check *out;
    struct ld_err *err;
};

static int canceled(struct check *c)
{
    return ld_flag_is_set(c->cancel) ? ld_err_set(c->err, LD_E_CANCELED, "the client has gone") : 0;
}

/* A finding that is not kept yet. */
struct told {
    const char *kind, *id, *name, *problem, *hint;
};

static char *copy(const char *text)
{
    return text ? ld_strdup(text) : NULL;
}

static void find(struct check *c, struct told told)
{
    struct ld_check *out = c->out;

    if (out->n_findings == LD_MAX_FINDINGS) {
        out->is_cut = true;
        return;
    }
    ld_grow(&out->finding, &out->cap_findings, out->n_findings + 1, sizeof(*out->finding));
    out->finding[out->n_findings++] = (struct ld_finding){
        .kind = told.kind,
        .id = copy(told.id),
        .name = copy(told.name),
        .problem = copy(told.problem),
        .hint = told.hint,
    };
}

/* ---- the database ---- */

static int on_store_problem(void *arg, const char *problem)
{
    find(arg, (struct told){.kind = "store",
                            .problem = problem,
                            .hint = "restore the database from a backup"});
    return 0;
}

/* ---- layers ---- */

static int check_layer(struct check *c, const struct ld_layer *layer)
{
    static const char hint[] = "import an image that has it: that repairs the layer";
    struct ld_layer again LD_AUTO(ld_layer_done) = {.sid = 0};
    const char *problem = layer->damage ? layer->damage : ld_layer_missing(c->core, layer);

    c->out->layers++;
    if (!problem)
        return 0;
    if (ld_store_layer_get(c->core->store, layer->sid, &again, c->err) < 0)
        return c->err->code == LD_E_NOT_FOUND ? 0 : -1; /* removed meanwhile */
    problem = again.damage ? again.damage : ld_layer_missing(c->core, &again);
    if (problem)
        find(c, (struct told){.kind = "layer",
                              .id = layer->chain_id,
                              .problem = problem,
                              .hint = layer->chain_id ? hint : NULL});
    return 0;
}

static int check_layers(struct check *c)
{
    uint64_t after = 0;

    do {
        struct ld_layer_page page LD_AUTO(ld_layer_page_done) = {.n = 0};

        if (canceled(c) < 0 || ld_store_layer_list(c->core->store, after, 0, &page, c->err) < 0)
            return -1;
        for (size_t i = 0; i < page.n; i++) {
            if (check_layer(c, &page.item[i]) < 0)
                return -1;
        }
        after = page.next;
    } while (after);
    return 0;
}

/* ---- containers and their mounts ---- */

/* Of a mounted one: is everything in it that its record asks for? */
static const char *missing_mounts(struct check *c, const struct ld_container *container)
{
    struct ld_loaded_rootfs rootfs;
    struct ld_err ignored = LD_ERR_INIT;
    autoclose int place = -EBADF;
    bool are_there;

    if (container->n_mounts == 0 ||
        ld_mounts_state(c->core->mounts, container->id, container->upper_sid) != LD_MOUNTED)
        return NULL;
    if (ld_rootfs_load(c->core, container, false, &rootfs, &ignored) < 0)
        return NULL; /* what it lacks has been told, or is another object's */
    place = ld_mounts_open_place(c->core->mounts, container->id);
    are_there = place < 0 || ld_parts_are_mounted(&rootfs.fs, place);
    ld_rootfs_done(&rootfs);
    return are_there ? NULL : "it is mounted, but not all of its mounts are in it";
}

static const char *container_problem(struct check *c, const struct ld_container *container)
{
    const char *problem =
        container->damage ? container->damage : ld_container_missing(c->core, container);

    return problem ? problem : missing_mounts(c, container);
}

static int check_container(struct check *c, const struct ld_container *container)
{
    struct ld_container again LD_AUTO(ld_container_done) = {.id = NULL};
    const char *problem = container_problem(c, container);

    c->out->containers++;
    if (!problem)
        return 0;
    if (ld_store_container_get(c->core->store, container->id, &again, c->err) < 0)
        return c->err->code == LD_E_NOT_FOUND ? 0 : -1;
    problem = container_problem(c, &again);
    if (problem)
        find(c, (struct told){
                    .kind = "container", .id = again.id, .name = again.name, .problem = problem});
    return 0;
}

static int check_containers(struct check *c)
{
    struct ld_container_query query = {.after = 0};

    do {
        struct ld_container_page page LD_AUTO(ld_container_page_done) = {.n = 0};

        if (canceled(c) < 0 || ld_store_container_list(c->core->store, &query, &page, c->err) < 0)
            return -1;
        for (size_t i = 0; i < page.n; i++) {
            if (check_container(c, &page.item[i]) < 0)
                return -1;
        }
        query.after = page.next;
    } while (query.after);
    return 0;
}

/* A mount of ours without a container: nobody will ever unmount it. */
static int check_mount(void *arg, const struct ld_mountinfo *line)
{
    struct check *c = arg;
    autofree char *prefix = ld_asprintf("%s/mnt/", c->core->root.run_path);
    const char *id = line->mountpoint + strlen(prefix);
    struct ld_container container LD_AUTO(ld_container_done) = {.id = NULL};
    struct ld_err err = LD_ERR_INIT;
    uint64_t of_folder, of_mount;

    if (strncmp(line->mountpoint, prefix, strlen(prefix)) != 0 || !ld_is_hex(id, 64))
        return 0;
    c->out->mounts++;
    if (ld_store_container_get(c->core->store, id, &container, &err) == 0 ||
        err.code != LD_E_NOT_FOUND)
        return 0;
    if (ld_mount_id(c->core->root.mnt_fd, id, &of_mount, NULL) < 0 ||
        ld_mount_id(c->core->root.mnt_fd, ".", &of_folder, NULL) < 0 || of_mount == of_folder)
        return 0; /* unmounted meanwhile */
    find(c, (struct told){.kind = "mount",
                          .id = id,
                          .problem = "something is mounted for a container that is not recorded",
                          .hint = "umount it"});
    return 0;
}

/* ---- volumes ---- */

/* Its directory is not there; perhaps it is removed by now. */
static bool is_missing(struct check *c, const struct ld_snapshot *s)
{
    struct stat st;

    return fstatat(c->core->root.volumes_fd, ld_sid_name(s->volume_sid).text, &st,
                   AT_SYMLINK_NOFOLLOW) < 0 &&
           errno == ENOENT;
}

static int check_snapshot(struct check *c, const struct ld_snapshot *s)
{
    struct ld_snapshot again LD_AUTO(ld_snapshot_done) = {.id = NULL};

    if (!is_missing(c, s))
        return 0;
    if (ld_store_snapshot_find(c->core->store, s->owner_id, s->id, &again, c->err) < 0)
        return c->err->code == LD_E_NOT_FOUND ? 0 : -1;
    if (is_missing(c, &again))
        find(c, (struct told){.kind = "snapshot",
                              .id = again.id,
                              .name = again.name,
                              .problem = "its directory is missing",
                              .hint = "remove the snapshot: what it had is lost"});
    return 0;
}

static int check_snapshots(struct check *c, const char *volume)
{
    struct ld_snapshot_query query = {.owner = volume};

    do {
        struct ld_snapshot_page page LD_AUTO(ld_snapshot_page_done) = {.n = 0};

        if (canceled(c) < 0 || ld_store_snapshot_list(c->core->store, &query, &page, c->err) < 0)
            return -1;
        for (size_t i = 0; i < page.n; i++) {
            if (check_snapshot(c, &page.item[i]) < 0)
                return -1;
        }
        query.after = page.next;
    } while (query.after);
    return 0;
}

static int check_volume(struct check *c, const struct ld_volume *volume)
{
    struct ld_volume again LD_AUTO(ld_volume_done) = {.id = NULL};
    const char *problem = volume->damage ? volume->damage : ld_volume_missing(c->core, volume);

    c->out->volumes++;
    if (check_snapshots(c, volume->id) < 0)
        return -1;
    if (!problem)
        return 0;
    if (ld_store_volume_get(c->core->store, volume->id, &again, c->err) < 0)
        return c->err->code == LD_E_NOT_FOUND ? 0 : -1;
    problem = again.damage ? again.damage : ld_volume_missing(c->core, &again);
    if (problem)
        find(c, (struct told){
                    .kind = "volume", .id = again.id, .name = again.name, .problem = problem});
    return 0;
}

static int check_volumes(struct check *c)
{
    struct ld_volume_query query = {.after = 0};

    do {
        struct ld_volume_page page LD_AUTO(ld_volume_page_done) = {.n = 0};

        if (canceled(c) < 0 || ld_store_volume_list(c->core->store, &query, &page, c->err) < 0)
            return -1;
        for (size_t i = 0; i < page.n; i++) {
            if (check_volume(c, &page.item[i]) < 0)
                return -1;
        }
        query.after = page.next;
    } while (query.after);
    return 0;
}

/* ---- names that no record knows ---- */

struct folder {
    struct check *c;
    int fd;
    enum ld_place place;
};

/* Its maker marks a directory before it is there, and unmarks it once it is recorded. */
static bool is_of_nobody(const struct folder *f, const char *name)
{
    struct ld_core *core = f->c->core;
    ld_sid sid = ld_sid_of_name(name);
    enum ld_sid_owner owner = LD_SID_UNKNOWN;
    struct ld_err err = LD_ERR_INIT;
    struct stat st;

    if (sid && (ld_making_is_marked(core, sid) ||
                ld_store_sid_owner(core->store, sid, &owner, &err) < 0 || owner != LD_SID_UNKNOWN))
        return false;
    return fstatat(f->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static int check_name(void *arg, const char *name, unsigned char d_type)
{
    const struct folder *f = arg;
    autofree char *path = ld_asprintf("%s/%s", ld_place_dir(f->place), name);

    (void)d_type;
    if (canceled(f->c) < 0)
        return -ECANCELED;
    if (f->place == LD_PLACE_LAYERS && strcmp(name, "0") == 0)
        return 0;
    if (!is_of_nobody(f, name))
        return 0;
    if (ld_sid_of_name(name) >= ld_store_sid_next(f->c->core->store))
        find(f->c,
             (struct told){.kind = "file",
                           .id = path,
                           .problem = "its number is above all that the database has given out: "
                                      "the database is older than the data root",
                           .hint = "the next start will change nothing until this is put right"});
    else
        find(f->c, (struct told){.kind = "file",
                                 .id = path,
                                 .problem = "no record knows it",
                                 .hint = "the next start moves it to quarantine/"});
    return 0;
}

static int check_folders(struct check *c)
{
    struct folder folders[] = {
        {.c = c, .fd = c->core->root.layers_fd, .place = LD_PLACE_LAYERS},
        {.c = c, .fd = c->core->root.w_fd, .place = LD_PLACE_W},
        {.c = c, .fd = c->core->root.volumes_fd, .place = LD_PLACE_VOLUMES},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(folders); i++) {
        int r = ld_each_name(folders[i].fd, check_name, &folders[i]);

        if (r < 0)
            return c->err->code ? -1
                                : ld_err_sys(c->err, r, "read the folder '%s'",
                                             ld_place_dir(folders[i].place));
    }
    return 0;
}

int ld_check_run(struct ld_core *core, const bool *cancel, struct ld_check *ret, struct ld_err *err)
{
    struct ld_check out LD_AUTO(ld_check_done) = {.n_findings = 0};
    struct check c = {.core = core, .cancel = cancel, .out = &out, .err = err};
    int r;

    if (ld_store_check(core->store, on_store_problem, &c, err) < 0 || check_layers(&c) < 0 ||
        check_containers(&c) < 0 || check_volumes(&c) < 0 || check_folders(&c) < 0)
        return -1;
    r = ld_mountinfo_each(check_mount, &c);
    if (r < 0)
        return ld_err_sys(err, r, "read /proc/self/mountinfo");
    *ret = out;
    out = (struct ld_check){.n_findings = 0};
    return 0;
}

void ld_check_done(struct ld_check *check)
{
    for (size_t i = 0; i < check->n_findings; i++) {
        free(check->finding[i].id);
        free(check->finding[i].name);
        free(check->finding[i].problem);
    }
    free(check->finding);
    *check = (struct ld_check){.n_findings = 0};
}
