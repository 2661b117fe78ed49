/* Why a path of a container is as it is: see explain.h.
 *
 * Three steps. The mounts inside the container are found: in mountinfo when it is mounted, else by
 * resolving the targets that its record asks for. The path is resolved component by component,
 * each looked at where it lies: in the layers, by the merge rule, or in what is mounted there. For
 * a path of the container's own tree every layer is then asked what it has there.
 */
#include "daemon/core/explain.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/mountapi.h"
#include "daemon/core/mounts.h"
#include "daemon/core/parts.h"
#include "daemon/core/rootfs.h"
#include "daemon/core/state.h"
#include "daemon/image/oci.h"
#include "daemon/jobs/lane.h"
#include "drivers/chain.h"

enum {
    MAX_LINKS = 40,        /* as the kernel */
    MAX_COMPONENTS = 8192, /* looked at, over all links */
    MAX_MOUNTS = 4096,
};

/* Something mounted inside the container. */
struct inner {
    char *at; /* resolved, "/a/b" */
    enum ld_explain_place place;
    const struct ld_mount_spec *spec; /* or NULL */
    int fd;                           /* its root, O_PATH; or -errno: nothing to be seen in it */
    bool is_read_only;
};

struct explain {
    struct ld_core *core;
    const bool *cancel;
    struct ld_loaded_rootfs rootfs;
    struct ld_open_chain chain;
    int own; /* the writable layer's tree */
    enum ld_form own_form;
    int *root; /* the container's tree: writable layer and chain, or the copy alone */
    struct ld_layers tree;
    int place; /* O_PATH of where it is mounted, or -EBADF */
    struct inner *inner;
    size_t n_inner, cap_inner;
    struct ld_explain *out;
};

static void explain_free(struct explain **slot)
{
    struct explain *e = *slot;

    for (size_t i = 0; i < e->n_inner; i++) {
        ld_close(e->inner[i].fd);
        free(e->inner[i].at);
    }
    free(e->inner);
    free(e->root);
    ld_close(e->own);
    ld_close(e->place);
    ld_chain_close(&e->chain);
    ld_rootfs_done(&e->rootfs);
    free(e);
    *slot = NULL;
}

void ld_explain_done(struct ld_explain *x)
{
    for (size_t i = 0; i < x->n_layers; i++) {
        ld_layer_done(&x->layer[i]);
        free(x->created_by[i]);
        ld_snapshot_done(&x->snapshot[i]);
    }
    free(x->layer);
    free(x->created_by);
    free(x->snapshot);
    for (size_t i = 0; i < x->n_steps; i++) {
        free(x->step[i].path);
        free(x->step[i].target);
    }
    free(x->step);
    for (size_t i = 0; i < x->n_parts; i++)
        free(x->part[i].hidden_at);
    free(x->part);
    free(x->resolved);
    free(x->missing);
    free(x->target);
    free(x->mounted_at);
    ld_container_done(&x->container);
    *x = (struct ld_explain){.n_layers = 0};
}

/* ---- looking at one place ---- */

/* The mount that a resolved path lies in: the one whose target is the longest. NULL: none. */
static const struct inner *inner_of(const struct explain *e, const char *path)
{
    const struct inner *best = NULL;

    for (size_t i = 0; i < e->n_inner; i++) {
        const struct inner *in = &e->inner[i];
        size_t len = strlen(in->at);

        /* Of several at one place the last one is seen. */
        if (strncmp(path, in->at, len) == 0 && (path[len] == '\0' || path[len] == '/') &&
            (!best || len >= strlen(best->at)))
            best = in;
    }
    return best;
}

struct look {
    bool exists;
    struct stat st;
    char *target;
};

static int look_in_mount(const struct inner *in, const char *rest, struct look *ret)
{
    autoclose int fd = -EBADF;
    char target[PATH_MAX];
    ssize_t len;

    if (in->fd < 0)
        return 0;
    fd = ld_tree_open_path(in->fd, *rest == '/' ? rest + 1 : rest, O_PATH | O_NOFOLLOW);
    if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP || fd == -ENAMETOOLONG || fd == -EXDEV)
        return 0;
    if (fd < 0 || fstat(fd, &ret->st) < 0)
        return fd < 0 ? fd : -errno;
    ret->exists = true;
    if (!S_ISLNK(ret->st.st_mode))
        return 0;
    len = readlinkat(fd, "", target, sizeof(target) - 1);
    if (len < 0)
        return -errno;
    ret->target = ld_strndup(target, (size_t)len);
    return 0;
}

/* path: resolved but for its last component. */
static int look_at(const struct explain *e, const char *path, struct look *ret, struct ld_err *err)
{
    struct ld_found found LD_AUTO(ld_found_done) = LD_FOUND_INIT;
    const struct inner *in = inner_of(e, path);
    int r;

    *ret = (struct look){.exists = false};
    if (ld_flag_is_set(e->cancel))
        return ld_err_set(err, LD_E_CANCELED, "the client has gone");
    if (in) {
        r = look_in_mount(in, path + strlen(in->at), ret);
        return r < 0 ? ld_err_sys(err, r, "look at '%s'", path) : 0;
    }
    r = ld_tree_lookup(&e->tree, path, &found, err);
    if (r <= 0)
        return r;
    ret->exists = true;
    ret->st = found.node.st;
    if (!S_ISLNK(ret->st.st_mode))
        return 0;
    r = ld_node_readlink(&found.node, &ret->target);
    if (r == -ESTALE || r == -ENOENT) /* replaced this very moment: as if it were a file */
        return 0;
    return r < 0 ? ld_err_sys(err, r, "read the link '%s'", path) : 0;
}

/* ---- resolving ---- */

struct walk {
    char *at;      /* what is resolved: "" is the root */
    char *pending; /* what is to come */
    size_t looked, links;
    struct look last;
};

static void walk_done(struct walk *w)
{
    free(w->at);
    free(w->pending);
    free(w->last.target);
}

static void go_up(struct walk *w)
{
    char *slash = strrchr(w->at, '/');

    if (slash)
        *slash = '\0';
}

static void add_step(struct explain *e, const char *path, const char *target)
{
    struct ld_explain *x = e->out;

    x->step = x->step ? x->step : ld_alloc0(MAX_LINKS * sizeof(*x->step));
    x->step[x->n_steps++] =
        (struct ld_explain_step){.path = ld_strdup(path), .target = ld_strdup(target)};
}

/* Follows the link at `path`. False: there have been too many. */
static bool follow_link(struct explain *e, struct walk *w, const char *path, const char *rest)
{
    char *pending;

    if (w->links == MAX_LINKS || strlen(w->last.target) + strlen(rest) >= 2 * PATH_MAX)
        return false;
    w->links++;
    if (e->out->resolved == NULL) /* the path asked for, not the target of a mount */
        add_step(e, path, w->last.target);
    pending = ld_asprintf("%s%s%s", w->last.target, *rest ? "/" : "", rest);
    free(w->pending);
    w->pending = pending;
    if (w->last.target[0] == '/')
        w->at[0] = '\0';
    return true;
}

struct resolved {
    char *path;    /* as far as it can be told */
    char *missing; /* NULL: all is there */
    bool is_loop;
    struct stat st;
    char *target;
};

static void resolved_done(struct resolved *r)
{
    free(r->path);
    free(r->missing);
    free(r->target);
}

static void give_up(struct walk *w, char **path, const char *rest, struct resolved *ret)
{
    ret->missing = ld_strdup(*path);
    ret->path = *rest ? ld_asprintf("%s/%s", *path, rest) : ld_steal(path);
    (void)w;
}

/* 1: done; 0: go on. */
static int resolve_next(struct explain *e, struct walk *w, bool follow, struct resolved *ret,
                        struct ld_err *err)
{
    autofree char *rest = NULL, *path = NULL, *name = NULL;
    const char *at = w->pending + strspn(w->pending, "/");
    size_t len = strcspn(at, "/");
    bool wants_dir = at[len] == '/';

    name = ld_strndup(at, len);
    rest = ld_strdup(at + len + strspn(at + len, "/"));
    if (len == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        if (strcmp(name, "..") == 0)
            go_up(w);
        if (len == 0) {
            ret->path = ld_strdup(w->at[0] ? w->at : "/");
            free(w->last.target);
            return look_at(e, ret->path, &w->last, err) < 0 ? -1 : 1;
        }
        free(w->pending);
        w->pending = ld_steal(&rest);
        return 0;
    }
    path = ld_asprintf("%s/%s", w->at, name);
    ld_free_p(&w->last.target);
    if (++w->looked > MAX_COMPONENTS) {
        ret->is_loop = true;
        give_up(w, &path, rest, ret);
        return 1;
    }
    if (look_at(e, path, &w->last, err) < 0)
        return -1;
    if (w->last.exists && w->last.target && (*rest || wants_dir || follow)) {
        if (follow_link(e, w, path, rest))
            return 0;
        ret->is_loop = true;
        give_up(w, &path, rest, ret);
        return 1;
    }
    if (!w->last.exists || ((*rest || wants_dir) && !S_ISDIR(w->last.st.st_mode))) {
        give_up(w, &path, rest, ret);
        return 1;
    }
    free(w->at);
    w->at = ld_steal(&path);
    free(w->pending);
    w->pending = ld_steal(&rest);
    if (w->pending[0])
        return 0;
    ret->path = ld_strdup(w->at);
    return 1;
}

static int resolve(struct explain *e, const char *path, bool follow, struct resolved *ret,
                   struct ld_err *err)
{
    struct walk w LD_AUTO(walk_done) = {.at = ld_strdup(""), .pending = ld_strdup(path)};
    int r;

    *ret = (struct resolved){.path = NULL};
    do
        r = resolve_next(e, &w, follow, ret, err);
    while (r == 0);
    if (r < 0) {
        resolved_done(ret);
        return -1;
    }
    if (!ret->missing) {
        ret->st = w.last.st;
        ret->target = ld_steal(&w.last.target);
    }
    return 0;
}

/* ---- what is mounted inside ---- */

static struct inner *add_inner(struct explain *e, const char *at, enum ld_explain_place place,
                               const struct ld_mount_spec *spec)
{
    struct inner *in;

    ld_grow(&e->inner, &e->cap_inner, e->n_inner + 1, sizeof(*in));
    in = &e->inner[e->n_inner++];
    *in = (struct inner){.at = ld_strdup(at), .place = place, .spec = spec, .fd = -EBADF};
    in->is_read_only = spec && spec->read_only;
    return in;
}

static enum ld_explain_place place_of(enum ld_mount_type type)
{
    switch (type) {
    case LD_MOUNT_VOLUME:
        return LD_IN_VOLUME;
    case LD_MOUNT_BIND:
        return LD_IN_BIND;
    case LD_MOUNT_TMPFS:
        break;
    }
    return LD_IN_TMPFS;
}

struct inner_scan {
    struct explain *e;
    char *prefix; /* the mount point and a '/' */
};

static int add_mounted(void *arg, const struct ld_mountinfo *line)
{
    struct inner_scan *s = arg;
    struct explain *e = s->e;
    size_t len = strlen(s->prefix);
    const struct ld_mount_part *part;
    const struct ld_mount_spec *spec = NULL;
    struct inner *in;
    struct statvfs sv;

    if (strncmp(line->mountpoint, s->prefix, len) != 0 || e->n_inner == MAX_MOUNTS)
        return 0;
    part = ld_part_of_mount(&e->core->root, &e->rootfs.fs, e->core->env.instance, line);
    if (part)
        spec = &e->out->container.mounts[part - e->rootfs.parts];
    in =
        add_inner(e, line->mountpoint + len - 1, spec ? place_of(spec->type) : LD_IN_FOREIGN, spec);
    in->fd = ld_open_under(e->place, in->at, LD_IN_ROOT, O_PATH | O_NOFOLLOW, 0);
    if (in->fd >= 0 && fstatvfs(in->fd, &sv) == 0)
        in->is_read_only = sv.f_flag & ST_RDONLY;
    return 0;
}

static size_t depth_of(const char *path)
{
    size_t n = 0;

    for (; *path; path++)
        n += path[0] == '/' && path[1] != '/' && path[1] != '\0';
    return n;
}

/* In the order in which they would be mounted: a nested one later. */
static int add_asked_for(struct explain *e, struct ld_err *err)
{
    const struct ld_container *c = &e->out->container;
    size_t left = c->n_mounts;

    for (size_t depth = 0; left > 0 && depth <= PATH_MAX; depth++) {
        for (size_t i = 0; i < c->n_mounts; i++) {
            struct resolved r;
            struct inner *in;
            struct ld_err ignored = LD_ERR_INIT;

            if (depth_of(c->mounts[i].target) != depth)
                continue;
            left--;
            if (resolve(e, c->mounts[i].target, true, &r, err) < 0)
                return -1;
            in = add_inner(e, r.path, place_of(c->mounts[i].type), &c->mounts[i]);
            if (c->mounts[i].type != LD_MOUNT_TMPFS)
                in->fd = ld_part_open_source(&e->core->root, &e->rootfs.parts[i], &ignored);
            resolved_done(&r);
        }
    }
    return 0;
}

static int find_mounts(struct explain *e, struct ld_err *err)
{
    const struct ld_container *c = &e->out->container;
    struct inner_scan scan = {.e = e};
    struct statvfs sv;
    int r;

    e->out->can_write = !c->read_only;
    if (ld_mounts_state(e->core->mounts, c->id, c->upper_sid) != LD_MOUNTED)
        return add_asked_for(e, err);
    e->place = ld_mounts_open_place(e->core->mounts, c->id);
    if (e->place < 0 || fstatvfs(e->place, &sv) < 0)
        return ld_err_sys(err, e->place < 0 ? e->place : -errno, "look at the mount");
    e->out->can_write = !(sv.f_flag & ST_RDONLY);
    scan.prefix = ld_asprintf("%s/mnt/%s/", e->core->root.run_path, c->id);
    r = ld_mountinfo_each(add_mounted, &scan);
    free(scan.prefix);
    return r < 0 ? ld_err_sys(err, r, "read /proc/self/mountinfo") : 0;
}

/* ---- the layers ---- */

static bool is_copy(const struct explain *e)
{
    return e->own_form == LD_FORM_PLAIN;
}

/* The writable layer is the topmost number. */
static size_t number_of(const struct explain *e, size_t index)
{
    size_t top = e->chain.layers.n + (is_copy(e) ? 0 : 1);

    return top - index;
}

static struct ld_explain_layer *add_part(struct explain *e)
{
    struct ld_explain *x = e->out;

    ld_grow(&x->part, &x->cap_parts, x->n_parts + 1, sizeof(*x->part));
    return &x->part[x->n_parts++];
}

static int trace_layers(struct explain *e, const struct ld_layers *layers, const char *path,
                        struct ld_err *err)
{
    struct ld_trace trace LD_AUTO(ld_trace_done) = {.n = 0};

    if (ld_tree_trace(layers, path, &trace, err) < 0)
        return -1;
    if (trace.provider != SIZE_MAX)
        e->out->provider = number_of(e, trace.provider);
    for (size_t i = 0; i < trace.n; i++) {
        const struct ld_trace_layer *l = &trace.layer[i];
        struct ld_explain_layer *part;

        if (l->role == LD_TRACE_ABSENT)
            continue;
        part = add_part(e);
        *part = (struct ld_explain_layer){
            .number = number_of(e, i), .role = l->role, .st = l->st, .is_opaque = l->is_opaque};
        if (l->hidden_at) {
            part->hidden_by = number_of(e, l->hidden_by);
            part->hidden_at = ld_strndup(trace.path, l->hidden_at);
            part->how = l->how;
        }
    }
    return 0;
}

/* A driver that copies has all of it in one tree: where a node is as the chain has it, it comes
 * from there; else it is the container's own, or was deleted by it. */
static int trace_copy(struct explain *e, const char *path, struct ld_err *err)
{
    struct ld_found own LD_AUTO(ld_found_done) = LD_FOUND_INIT;
    struct ld_found below LD_AUTO(ld_found_done) = LD_FOUND_INIT;
    struct ld_explain *x = e->out;
    struct ld_explain_layer *part;
    size_t mine = e->chain.layers.n + 1;
    bool is_equal = false;
    int has, had;

    if (trace_layers(e, &e->chain.layers, path, err) < 0)
        return -1;
    has = ld_tree_lookup(&e->tree, path, &own, err);
    had = has < 0 ? -1 : ld_tree_lookup(&e->chain.layers, path, &below, err);
    if (had < 0 ||
        (has && had && ld_node_compare(&own.node, &below.node, e->cancel, &is_equal, err) < 0))
        return -1;
    if (is_equal || (!has && !had))
        return 0;
    x->provider = has ? mine : 0;
    for (size_t i = 0; i < x->n_parts; i++) {
        if (x->part[i].role != LD_TRACE_PROVIDES && x->part[i].role != LD_TRACE_MERGES)
            continue;
        if (has && S_ISDIR(own.node.st.st_mode) && S_ISDIR(x->part[i].st.st_mode)) {
            x->part[i].role = LD_TRACE_MERGES;
            continue;
        }
        x->part[i].role = LD_TRACE_HIDDEN;
        x->part[i].hidden_by = mine;
        x->part[i].hidden_at = ld_strdup(path);
        x->part[i].how = has ? LD_HIDE_REPLACED : LD_HIDE_WHITEOUT;
    }
    if (!has)
        return 0;
    (void)add_part(e);
    part = x->part;
    memmove(part + 1, part, (x->n_parts - 1) * sizeof(*part));
    *part = (struct ld_explain_layer){.number = mine, .role = LD_TRACE_PROVIDES, .st = own.node.st};
    return 0;
}

/* Directories on the way that the writable layer does not have yet. */
static int count_parents(struct explain *e, const char *path, size_t *ret, struct ld_err *err)
{
    struct ld_layers own = {.root = &e->own, .n = 1, .form = e->own_form};
    autofree char *at = ld_strdup(path);
    char *slash;

    *ret = 0;
    while ((slash = strrchr(at, '/')) && slash != at) {
        struct ld_found found LD_AUTO(ld_found_done) = LD_FOUND_INIT;
        int r;

        *slash = '\0';
        r = ld_tree_lookup(&own, at, &found, err);
        if (r != 0)
            return r < 0 ? -1 : 0;
        ++*ret;
    }
    return 0;
}

/* What the kernel's copy-up takes: data without its holes; nothing of a directory or special file
 * but the entry. */
static int price(struct explain *e, struct ld_err *err)
{
    struct ld_explain *x = e->out;
    uint64_t on_disk = (uint64_t)x->st.st_blocks * 512;
    uint64_t size = (uint64_t)x->st.st_size;

    if (!x->exists || is_copy(e) || x->provider > e->chain.layers.n)
        return 0;
    x->copies = true;
    if (S_ISREG(x->st.st_mode))
        x->copy_bytes = size < on_disk ? size : on_disk;
    x->breaks_links = !S_ISDIR(x->st.st_mode) && x->st.st_nlink > 1;
    return count_parents(e, x->resolved, &x->copy_parents, err);
}

/* ---- who made the layers ---- */

/* From the image's history, as far as the image is still there and whole. */
static void name_layers(struct explain *e)
{
    struct ld_explain *x = e->out;
    struct ld_image image LD_AUTO(ld_image_done) = {.id = NULL};
    struct ld_oci_config config LD_AUTO(ld_oci_config_done) = {.n_layers = 0};
    struct ld_err ignored = LD_ERR_INIT;

    if (!x->container.image_id ||
        ld_store_image_get(e->core->store, x->container.image_id, &image, &ignored) < 0 ||
        ld_oci_config_parse(image.config, image.config_len, image.id, &config, &ignored) < 0)
        return;
    for (size_t i = 0; i < x->n_layers; i++) {
        if (x->layer[i].sid == image.tip_sid)
            x->n_image_layers = i + 1;
    }
    for (size_t i = 0; i < config.n_history; i++) {
        const struct ld_oci_history *h = &config.history[i];

        if (h->layer >= 0 && (size_t)h->layer < x->n_image_layers && h->created_by)
            x->created_by[h->layer] = ld_strdup(h->created_by);
    }
}

/* A clone's may be those of the container it came from. */
static void name_snapshots(struct explain *e)
{
    struct ld_explain *x = e->out;

    for (size_t i = x->n_image_layers; i < x->n_layers; i++) {
        struct ld_err ignored = LD_ERR_INIT; /* no snapshot names it */

        (void)!ld_store_snapshot_of_layer(e->core->store, x->layer[i].sid, x->container.id,
                                          &x->snapshot[i], &ignored);
    }
}

static int load(struct explain *e, const char *id, struct ld_err *err)
{
    struct ld_explain *x = e->out;
    const struct ld_chain_sids *chain = &e->rootfs.chain;
    size_t n;

    if (ld_store_container_get(e->core->store, id, &x->container, err) < 0 ||
        ld_rootfs_load(e->core, &x->container, true, &e->rootfs, err) < 0)
        return -1;
    x->layer = ld_alloc0((chain->n + 1) * sizeof(*x->layer));
    x->created_by = ld_alloc0((chain->n + 1) * sizeof(*x->created_by));
    x->snapshot = ld_alloc0((chain->n + 1) * sizeof(*x->snapshot));
    x->n_layers = chain->n;
    for (size_t i = 0; i < chain->n; i++) {
        if (ld_store_layer_get(e->core->store, chain->sid[chain->n - 1 - i], &x->layer[i], err) < 0)
            return -1;
    }
    name_layers(e);
    name_snapshots(e);
    if (ld_chain_open(&e->core->env, &e->rootfs.fs.writable.chain, &e->chain, err) < 0)
        return -1;
    e->own = e->rootfs.fs.driver->open(e->rootfs.fs.env, &e->rootfs.fs.writable, &e->own_form);
    if (e->own < 0)
        return ld_err_sys(err, e->own, "open the writable layer of container '%s'", id);
    n = is_copy(e) ? 0 : e->chain.layers.n;
    e->root = ld_alloc0((n + 1) * sizeof(*e->root));
    e->root[0] = e->own;
    for (size_t i = 0; i < n; i++)
        e->root[i + 1] = e->chain.layers.root[i];
    e->tree = (struct ld_layers){.root = e->root, .n = n + 1, .form = e->own_form};
    return 0;
}

static int explain_own(struct explain *e, struct ld_err *err)
{
    struct ld_explain *x = e->out;
    const char *path = x->missing ? x->missing : x->resolved;

    if ((is_copy(e) ? trace_copy(e, path, err) : trace_layers(e, &e->tree, path, err)) < 0)
        return -1;
    return price(e, err);
}

int ld_explain(struct ld_core *core, const char *id, const char *path, bool follow,
               const bool *cancel, struct ld_explain *ret, struct ld_err *err)
{
    struct ld_explain x LD_AUTO(ld_explain_done) = {.n_layers = 0};
    struct explain *e LD_AUTO(explain_free) = ld_new(struct explain);
    struct resolved r;
    const struct inner *in;

    e->core = core;
    e->cancel = cancel;
    e->own = e->place = -EBADF;
    e->out = &x;
    if (path[0] != '/' || strlen(path) >= PATH_MAX)
        return ld_err_set(err, LD_E_INVALID, "'%.64s' is no absolute path of at most %d bytes",
                          path, PATH_MAX - 1);
    if (load(e, id, err) < 0)
        return -1;
    x.resolved = ld_strdup(""); /* while targets of mounts are resolved, no step is noted */
    if (find_mounts(e, err) < 0)
        return -1;
    ld_free_p(&x.resolved);
    if (resolve(e, path, follow, &r, err) < 0)
        return -1;
    x.resolved = r.path;
    x.missing = r.missing;
    x.is_loop = r.is_loop;
    x.exists = !r.missing;
    x.st = r.st;
    x.target = r.target;
    in = inner_of(e, x.missing ? x.missing : x.resolved);
    if (in) {
        x.place = in->place;
        x.mounted_at = ld_strdup(in->at);
        x.mount = in->spec;
        x.can_write = !in->is_read_only;
    } else if (explain_own(e, err) < 0) {
        return -1;
    }
    *ret = ld_steal(&x);
    return 0;
}
