/* Making a container: see container.h.
 *
 * Volumes first, then the writable layer, made durable, then one transaction that makes it exist.
 * What fails before that takes away what it made; a crash in between leaves a directory without a
 * record, which the next start moves away.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/base/digest.h"
#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/core/backing.h"
#include "daemon/core/container.h"
#include "daemon/core/image.h"
#include "daemon/core/limits.h"
#include "daemon/core/rootfs.h"
#include "daemon/core/state.h"
#include "daemon/core/volume.h"
#include "daemon/core/writable.h"
#include "daemon/image/doc.h"
#include "daemon/image/oci.h"
#include "daemon/jobs/op.h"

enum { MAX_MOUNTS = 64 };

int ld_container_admit_create(struct ld_core *core, const struct ld_container_spec *spec,
                              struct ld_op *op, struct ld_err *err)
{
    if (ld_image_admit(core, spec->image, false, op, NULL, err) < 0)
        return -1;
    if (spec->name)
        ld_op_key(op, LD_EXCLUSIVE, "n:c:%s", spec->name);
    return 0;
}

/* A create in work: what it made so far, to be taken away if it fails. */
struct create {
    struct ld_core *core;
    const struct ld_write *w;
    struct ld_write for_volumes; /* the same, but an idempotency key is the container's */
    struct ld_container c;
    struct ld_chain_sids chain;
    struct ld_new_writable writable;
    const struct ld_driver *driver;
    char *made_volumes[MAX_MOUNTS];
    ld_sid pinned[MAX_MOUNTS]; /* theirs */
    size_t n_made;
    char **image_volumes; /* paths, NULL at the end */
};

/* The same components, however many slashes are between and after them. */
static bool is_same_path(const char *a, const char *b)
{
    for (;;) {
        size_t len;

        a += strspn(a, "/");
        b += strspn(b, "/");
        len = strcspn(a, "/");
        if (len != strcspn(b, "/") || memcmp(a, b, len) != 0)
            return false;
        if (len == 0)
            return true;
        a += len;
        b += len;
    }
}

static int check_target(const struct ld_mount_spec *mounts, size_t i, struct ld_err *err)
{
    const char *target = mounts[i].target;

    if (target[0] != '/' || target[strspn(target, "/")] == '\0')
        return ld_err_set(err, LD_E_INVALID,
                          "the mount target '%s' is not an absolute path below '/'", target);
    for (const char *p = target; *p;) {
        size_t len;

        p += strspn(p, "/");
        len = strcspn(p, "/");
        if ((len == 1 && p[0] == '.') || (len == 2 && p[0] == '.' && p[1] == '.'))
            return ld_err_set(err, LD_E_INVALID, "the mount target '%s' has '.' or '..' in it",
                              target);
        if (len > 255)
            return ld_err_set(err, LD_E_INVALID,
                              "the mount target '%.64s…' has a name over 255 bytes", target);
        p += len;
    }
    for (size_t k = 0; k < i; k++) {
        if (is_same_path(mounts[k].target, target))
            return ld_err_set(err, LD_E_INVALID, "the mount target '%s' is given twice", target);
    }
    return 0;
}

static int check_source(const struct ld_mount_spec *m, struct ld_err *err)
{
    switch (m->type) {
    case LD_MOUNT_VOLUME:
        if (m->source && !ld_name_is_valid(m->source) && !ld_is_hex(m->source, 64))
            return ld_err_set(err, LD_E_INVALID, "'%s' is neither a volume's name nor an id",
                              m->source);
        return 0;
    case LD_MOUNT_BIND:
        if (!m->source || m->source[0] != '/')
            return ld_err_set(err, LD_E_INVALID,
                              "the bind mount at '%s' needs an absolute path as its source",
                              m->target);
        if (access(m->source, F_OK) < 0)
            return ld_err_set(err, LD_E_NOT_FOUND,
                              "the source '%s' of the bind mount at '%s' does not exist", m->source,
                              m->target);
        return 0;
    case LD_MOUNT_TMPFS:
        if (m->source)
            return ld_err_set(err, LD_E_INVALID, "the tmpfs at '%s' can't have a source",
                              m->target);
        return 0;
    }
    return 0;
}

static int check_spec(const struct ld_container_spec *spec, struct ld_err *err)
{
    if (spec->name && ld_container_name_check(spec->name, err) < 0)
        return -1;
    if (spec->backing && !spec->ephemeral) {
        (void)ld_err_set(err, LD_E_INVALID, "a backing is for ephemeral containers only");
        return ld_err_hint(err, "make it ephemeral: what is in it is gone after a reboot");
    }
    if (spec->backing && spec->limits.bytes == 0)
        return ld_err_set(err, LD_E_INVALID, "a backing needs a size_limit");
    if (spec->n_mounts > MAX_MOUNTS)
        return ld_err_set(err, LD_E_INVALID, "%zu mounts are more than %d", spec->n_mounts,
                          MAX_MOUNTS);
    for (size_t i = 0; i < spec->n_mounts; i++) {
        if (check_target(spec->mounts, i, err) < 0 || check_source(&spec->mounts[i], err) < 0)
            return -1;
    }
    return 0;
}

static int add_mount(struct create *k, const struct ld_mount_spec *from, struct ld_err *err)
{
    struct ld_mount_spec *to = &k->c.mounts[k->c.n_mounts++];
    struct ld_volume v LD_AUTO(ld_volume_done) = {.sid = 0};
    bool made = false;

    *to = (struct ld_mount_spec){
        .type = from->type, .read_only = from->read_only, .size = from->size};
    to->target = ld_strdup(from->target);
    to->source = from->source ? ld_strdup(from->source) : NULL;
    to->subpath = from->subpath ? ld_strdup(from->subpath) : NULL;
    if (from->type != LD_MOUNT_VOLUME)
        return 0;
    if (ld_volume_ensure(k->core, &k->for_volumes, from->source, &v, &made, err) < 0)
        return ld_err_prefix(err, "the volume for '%s'", from->target);
    if (made) {
        k->pinned[k->n_made] = v.sid;
        k->made_volumes[k->n_made++] = ld_strdup(v.id);
    }
    to->volume_id = ld_strdup(v.id);
    free(to->source);
    to->source = v.name ? ld_strdup(v.name) : NULL;
    return 0;
}

static bool is_covered(const struct ld_container *c, const char *target)
{
    for (size_t i = 0; i < c->n_mounts; i++) {
        if (strcmp(c->mounts[i].target, target) == 0)
            return true;
    }
    return false;
}

/* The mounts asked for; then an anonymous volume for each path the image declares as one. */
static int add_mounts(struct create *k, const struct ld_container_spec *spec, struct ld_err *err)
{
    struct ld_container *c = &k->c;

    c->mounts = ld_alloc0(MAX_MOUNTS * sizeof(*c->mounts));
    for (size_t i = 0; i < spec->n_mounts; i++) {
        if (add_mount(k, &spec->mounts[i], err) < 0)
            return -1;
    }
    for (size_t i = 0; k->image_volumes && k->image_volumes[i]; i++) {
        struct ld_mount_spec m = {.type = LD_MOUNT_VOLUME, .target = k->image_volumes[i]};

        if (is_covered(c, m.target))
            continue;
        if (c->n_mounts == MAX_MOUNTS)
            return ld_err_set(
                err, LD_E_INVALID,
                "with the volumes that the image declares there are more than %d mounts",
                MAX_MOUNTS);
        if (check_target(&m, 0, err) < 0) {
            err->code = LD_E_BAD_CONTENT;
            return ld_err_prefix(err, "image '%s' declares a volume", spec->image);
        }
        if (add_mount(k, &m, err) < 0)
            return -1;
    }
    return 0;
}

static int read_image_volumes(struct create *k, const struct ld_image *image, struct ld_err *err)
{
    struct ld_oci_config config LD_AUTO(ld_oci_config_done) = {.n_layers = 0};

    if (ld_oci_config_parse(image->config, image->config_len, image->id, &config, err) < 0)
        return -1;
    k->image_volumes = ld_steal(&config.volumes);
    return 0;
}

static char *dup_or_null(const char *text)
{
    return text ? ld_strdup(text) : NULL;
}

/* What stands below: the image's layers. */
static int stand_on_image(struct create *k, const struct ld_container_spec *spec,
                          struct ld_err *err)
{
    struct ld_image image LD_AUTO(ld_image_done) = {.id = NULL};
    struct ld_container *c = &k->c;

    if (ld_image_find(k->core, spec->image, &image, err) < 0 ||
        ld_store_chain(k->core->store, image.tip_sid, &k->chain, err) < 0 ||
        read_image_volumes(k, &image, err) < 0)
        return -1;
    if (k->chain.damaged) {
        (void)ld_err_set(err, LD_E_CORRUPT, "image '%s' has a damaged layer", spec->image);
        return ld_err_hint(err, "import the image again: that repairs the layer");
    }
    c->image_id = ld_strdup(image.id);
    for (size_t i = 0; i < image.n_refs && !c->image_ref; i++) {
        autofree char *shown = ld_image_short_ref(image.refs[i]);
        autofree char *asked = ld_image_short_ref(spec->image);

        if (strcmp(shown, asked) == 0)
            c->image_ref = ld_strdup(image.refs[i]);
    }
    c->parent_sid = c->base_sid = image.tip_sid;
    return 0;
}

/* The same for a clone: a tip of the container it is made from. */
static int stand_on_tip(struct create *k, const struct ld_container_origin *origin,
                        struct ld_err *err)
{
    const struct ld_container *from = origin->container;
    struct ld_container *c = &k->c;

    if (ld_store_chain(k->core->store, origin->layer ? origin->layer->parent_sid : origin->tip_sid,
                       &k->chain, err) < 0)
        return -1;
    if (k->chain.damaged)
        return ld_err_set(err, LD_E_CORRUPT, "container '%s' stands on a damaged layer",
                          from->name ? from->name : from->id);
    c->image_id = dup_or_null(from->image_id);
    c->image_ref = dup_or_null(from->image_ref);
    c->base_sid = from->base_sid;
    c->parent_sid = origin->tip_sid;
    if (!origin->layer)
        return 0;
    if (k->chain.n == LD_MAX_LAYERS)
        return ld_err_set(err, LD_E_CONFLICT, "a container can't stand on more than %d layers",
                          LD_MAX_LAYERS);
    memmove(k->chain.sid + 1, k->chain.sid, k->chain.n++ * sizeof(k->chain.sid[0]));
    k->chain.sid[0] = origin->layer->sid; /* its directory is there, its record comes with ours */
    return 0;
}

static int fill(struct create *k, const struct ld_container_spec *spec, struct ld_err *err)
{
    struct ld_container *c = &k->c;
    char id[65];

    if ((spec->origin ? stand_on_tip(k, spec->origin, err) : stand_on_image(k, spec, err)) < 0)
        return -1;
    ld_random_hex(id, 32);
    c->id = ld_strdup(id);
    c->name = dup_or_null(spec->name);
    c->driver = ld_strdup(k->driver->name);
    c->labels = dup_or_null(spec->labels);
    c->config = dup_or_null(spec->config);
    c->spec_digest = dup_or_null(spec->spec_digest);
    c->read_only = spec->read_only;
    c->ephemeral = spec->ephemeral;
    c->auto_remove = spec->auto_remove;
    c->limits = spec->limits;
    c->backing = spec->backing;
    c->created_ns = ld_now_ns();
    return 0;
}

static int make_layer(struct create *k, const bool *cancel, struct ld_err *err)
{
    struct ld_writable_spec spec = {.driver = k->driver,
                                    .chain = {.sid = k->chain.sid, .n = k->chain.n},
                                    .limits = k->c.limits,
                                    .backing = k->c.backing};

    if (ld_writable_begin(k->core, &spec, cancel, &k->writable, err) < 0)
        return -1;
    k->c.upper_sid = k->writable.w.sid;
    k->c.driver_state = dup_or_null(ld_writable_state(&k->writable));
    return 0;
}

/* The record, after everything it relies on is on the disk. */
static int record(struct create *k, const struct ld_container_origin *origin, struct ld_err *err)
{
    struct ld_write w = *k->w;

    if (ld_writable_ready(k->core, &k->writable, k->c.ephemeral, &w, err) < 0)
        return -1;
    if (!origin)
        return ld_store_container_add(k->core->store, &w, &k->c, err);
    return ld_store_container_clone(k->core->store, &w, &k->c, origin->container->id, origin->layer,
                                    err);
}

static void undo(struct create *k)
{
    struct ld_err ignored = LD_ERR_INIT;

    ld_writable_undo(k->core, &k->writable);
    for (size_t i = 0; i < k->n_made; i++) {
        struct ld_removed removed LD_AUTO(ld_removed_done) = {.n = 0};
        struct ld_volume_removal how = {.purge = true};

        (void)ld_volume_remove(k->core, &k->for_volumes, k->made_volumes[i], &how, &removed,
                               &ignored); /* somebody may use it by now: then it stays */
    }
}

static int check_limits(struct create *k, const struct ld_container_spec *spec, struct ld_err *err)
{
    struct ld_err why;

    if (spec->backing)
        return ld_backing_check(k->core, spec->backing, k->driver, err);
    if (ld_limits_check(k->core, &spec->limits, err) == 0)
        return 0;
    why = *err;
    return ld_err_hint(err, "%s; or make it ephemeral, with a size_limit and backing=tmpfs",
                       why.hint);
}

static int create_new(struct create *k, const struct ld_container_spec *spec, const bool *cancel,
                      struct ld_err *err)
{
    if (ld_core_driver(k->core, spec->driver, &k->driver, err) < 0 ||
        check_limits(k, spec, err) < 0 || ld_core_may_grow(k->core, 0, err) < 0 ||
        fill(k, spec, err) < 0 || add_mounts(k, spec, err) < 0 || make_layer(k, cancel, err) < 0)
        return -1;
    return record(k, spec->origin, err);
}

/* The container made by a PUT of the same body before. 1: found. */
static int find_same(struct ld_core *core, const struct ld_container_spec *spec,
                     struct ld_container_state *ret, struct ld_err *err)
{
    struct ld_err lookup = LD_ERR_INIT;
    const char *find = spec->may_exist ? spec->name : NULL;

    if (!find)
        return 0;
    if (ld_container_find(core, find, ret, &lookup) < 0)
        return lookup.code == LD_E_NOT_FOUND || lookup.code == LD_E_CONFLICT ? 0
                                                                             : (*err = lookup, -1);
    if (!ret->record.name || strcmp(ret->record.name, find) != 0) { /* found as an id's beginning */
        ld_container_state_done(ret);
        return 0;
    }
    if (!spec->must_be_new && ret->record.spec_digest && spec->spec_digest &&
        strcmp(ret->record.spec_digest, spec->spec_digest) == 0)
        return 1;
    ld_container_state_done(ret);
    if (spec->must_be_new)
        return ld_err_set(err, LD_E_PRECONDITION, "the container '%s' exists", find);
    (void)ld_err_set(err, LD_E_EXISTS, "the container '%s' exists and was made differently", find);
    return ld_err_hint(err, "remove it first, or ask for what it is");
}

int ld_container_create(struct ld_core *core, const struct ld_write *w,
                        const struct ld_container_spec *spec, const bool *cancel,
                        struct ld_container_state *ret, bool *ret_made, struct ld_err *err)
{
    struct create *k;
    struct ld_container record = {.id = NULL};
    int rc;

    if (check_spec(spec, err) < 0)
        return -1;
    rc = find_same(core, spec, ret, err);
    *ret_made = rc == 0;
    if (rc)
        return rc < 0 ? -1 : 0;
    k = ld_new(struct create);
    k->core = core;
    k->w = w;
    k->for_volumes = *w;
    k->for_volumes.once = NULL;
    rc = create_new(k, spec, cancel, err);
    if (rc < 0)
        undo(k);
    else
        rc = ld_store_container_get(core->store, k->c.id, &record, err);
    if (rc == 0)
        ld_container_state_of(core, &record, ret);
    ld_pins_drop(core->pins, k->pinned, k->n_made);
    for (size_t i = 0; i < k->n_made; i++)
        free(k->made_volumes[i]);
    ld_writable_end(core, &k->writable);
    ld_strv_free_p(&k->image_volumes);
    ld_container_done(&k->c);
    free(k);
    return rc;
}
