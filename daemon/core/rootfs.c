/* Loading a container's file system from the records: see rootfs.h. */
#include "daemon/core/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/base/mem.h"
#include "daemon/core/backing.h"
#include "daemon/core/state.h"

int ld_core_driver(struct ld_core *core, const char *name, const struct ld_driver **ret,
                   struct ld_err *err)
{
    if (!name || !*name) {
        *ret = core->default_driver;
        return 0;
    }
    for (size_t i = 0; i < core->n_drivers; i++) {
        const struct ld_driver_status *s = &core->driver[i];

        if (strcmp(s->driver->name, name) != 0)
            continue;
        if (!s->is_usable) {
            (void)ld_err_set(err, LD_E_UNSUPPORTED,
                             "the storage driver '%s' can't be used here: %s", name,
                             s->why.message);
            return ld_err_hint(err, "%s", s->why.hint);
        }
        *ret = s->driver;
        return 0;
    }
    (void)ld_err_set(err, LD_E_INVALID, "there is no storage driver '%s'", name);
    return ld_err_hint(err, "GET /v1/info lists the drivers");
}

static int load_part(struct ld_core *core, const struct ld_mount_spec *m, bool whole,
                     struct ld_mount_part *ret, struct ld_err *err)
{
    struct ld_volume volume LD_AUTO(ld_volume_done) = {.sid = 0};

    *ret = (struct ld_mount_part){.target = m->target,
                                  .source = m->source,
                                  .subpath = m->subpath,
                                  .read_only = m->read_only,
                                  .size = m->size};
    switch (m->type) {
    case LD_MOUNT_BIND:
        ret->type = LD_PART_BIND;
        return 0;
    case LD_MOUNT_TMPFS:
        ret->type = LD_PART_TMPFS;
        return 0;
    case LD_MOUNT_VOLUME:
        ret->type = LD_PART_VOLUME;
        break;
    }
    if (ld_store_volume_get(core->store, m->volume_id, &volume, err) < 0)
        return ld_err_prefix(err, "the volume for '%s'", m->target);
    if (whole && volume.damage)
        return ld_err_set(err, LD_E_CORRUPT, "volume '%s' is damaged: %s",
                          volume.name ? volume.name : volume.id, volume.damage);
    ret->volume = volume.sid;
    ret->seed = !volume.seeded;
    return 0;
}

static int refuse_damaged(struct ld_core *core, const struct ld_container *c, ld_sid damaged,
                          struct ld_err *err)
{
    struct ld_layer layer LD_AUTO(ld_layer_done) = {.sid = 0};

    if (c->damage)
        return ld_err_set(err, LD_E_CORRUPT, "the container is damaged: %s", c->damage);
    if (!damaged)
        return 0;
    if (ld_store_layer_get(core->store, damaged, &layer, err) < 0)
        return -1;
    (void)ld_err_set(err, LD_E_CORRUPT, "layer %s below the container is damaged: %s",
                     layer.chain_id ? layer.chain_id : "without a name",
                     layer.damage ? layer.damage : "unknown");
    return ld_err_hint(err, "import its image again: that repairs the layer");
}

/* The layers above the image's tip. */
static size_t count_own(const struct ld_chain_sids *chain, ld_sid base)
{
    size_t n = 0;

    while (n < chain->n && chain->sid[n] != base)
        n++;
    return n;
}

/* What holds it to its limits is that file system, not the driver. */
static int load_backing(struct ld_core *core, const struct ld_container *c, bool whole,
                        struct ld_loaded_rootfs *ret, struct ld_err *err)
{
    ret->backing = ld_backing_env(&core->root, &core->env, c->upper_sid);
    ret->fs.env = &ret->backing;
    ret->fs.is_backed = true;
    ret->fs.writable.is_apart = true;
    if (ret->backing.w_fd >= 0 || !whole)
        return 0;
    ld_rootfs_done(ret);
    return ld_err_set(err, LD_E_CORRUPT, "the %s that holds its writable layer was unmounted",
                      ld_backing_name(c->backing));
}

/* What lies apart from the layer store is on another device: another file system, or a subvolume.
 */
static bool is_apart(const struct ld_core *core, ld_sid sid)
{
    struct stat layers, w;

    return fstat(core->root.layers_fd, &layers) == 0 &&
           fstatat(core->root.w_fd, ld_sid_name(sid).text, &w, AT_SYMLINK_NOFOLLOW) == 0 &&
           layers.st_dev != w.st_dev;
}

int ld_rootfs_load(struct ld_core *core, const struct ld_container *c, bool whole,
                   struct ld_loaded_rootfs *ret, struct ld_err *err)
{
    struct ld_rootfs *fs = &ret->fs;

    *ret = (struct ld_loaded_rootfs){.fs.id = c->id, .fs.env = &core->env};
    if (ld_core_driver(core, c->driver, &fs->driver, err) < 0 ||
        ld_store_chain(core->store, c->parent_sid, &ret->chain, err) < 0 ||
        (whole && refuse_damaged(core, c, ret->chain.damaged, err) < 0))
        return -1;
    fs->writable.sid = c->upper_sid;
    fs->writable.chain = (struct ld_chain){.sid = ret->chain.sid, .n = ret->chain.n};
    fs->writable.n_own = count_own(&ret->chain, c->base_sid);
    if (c->driver_state)
        (void)snprintf(fs->writable.state.text, sizeof(fs->writable.state.text), "%s",
                       c->driver_state); /* it was made from such a text */
    fs->read_only = c->read_only;
    fs->is_volatile = c->ephemeral;
    fs->was_mounted = c->ever_mounted;
    fs->target = NULL;
    ret->parts = ld_alloc0((c->n_mounts + 1) * sizeof(*ret->parts));
    for (size_t i = 0; i < c->n_mounts; i++) {
        if (load_part(core, &c->mounts[i], whole, &ret->parts[i], err) < 0) {
            ld_rootfs_done(ret);
            return -1;
        }
    }
    fs->parts = ret->parts;
    fs->n_parts = c->n_mounts;
    if (c->backing)
        return load_backing(core, c, whole, ret, err);
    fs->writable.limits = c->limits;
    fs->writable.is_apart = is_apart(core, c->upper_sid);
    return 0;
}

void ld_rootfs_done(struct ld_loaded_rootfs *rootfs)
{
    ld_free_p(&rootfs->parts);
    rootfs->fs.n_parts = 0;
    if (rootfs->fs.is_backed)
        ld_close_p(&rootfs->backing.w_fd);
}

int ld_rootfs_record_seeds(struct ld_core *core, const struct ld_write *w,
                           const struct ld_container *c, const struct ld_loaded_rootfs *rootfs,
                           struct ld_err *err)
{
    for (size_t i = 0; i < c->n_mounts; i++) {
        if (c->mounts[i].type == LD_MOUNT_VOLUME && rootfs->parts[i].seed &&
            ld_store_volume_set_seeded(core->store, w, c->mounts[i].volume_id, err) < 0)
            return -1;
    }
    return 0;
}

int ld_blame_removal(struct ld_core *core, const char *id, struct ld_err *err)
{
    struct ld_container c LD_AUTO(ld_container_done) = {.id = NULL};
    struct ld_err lookup = LD_ERR_INIT;

    if ((err->code == LD_E_IO || err->code == LD_E_CORRUPT) &&
        ld_store_container_get(core->store, id, &c, &lookup) < 0 && lookup.code == LD_E_NOT_FOUND)
        *err = lookup;
    return -1;
}

int ld_reader_open(struct ld_core *core, const struct ld_write *w, const char *id, bool with_parts,
                   struct ld_reader *ret, struct ld_err *err)
{
    *ret = (struct ld_reader){.view.fd = -EBADF};
    if (ld_store_container_get(core->store, id, &ret->container, err) < 0)
        return -1;
    if (ld_rootfs_load(core, &ret->container, true, &ret->rootfs, err) < 0) {
        ld_container_done(&ret->container);
        return -1;
    }
    ret->core = core;
    ld_pins_add(core->pins, ret->rootfs.chain.sid, ret->rootfs.chain.n);
    ld_pins_add(core->pins, &ret->container.upper_sid, 1);
    /* A view mounts it at the stage; whatever happens to us, the next mount is probed for. */
    if ((ret->container.ever_mounted ||
         ld_store_container_set_ever_mounted(core->store, id, err) == 0) &&
        ld_mounts_view(core->mounts, &ret->rootfs.fs, with_parts, &ret->view, err) == 0 &&
        (!with_parts || ld_rootfs_record_seeds(core, w, &ret->container, &ret->rootfs, err) == 0))
        return 0;
    ld_reader_close(ret);
    return ld_blame_removal(core, id, err);
}

void ld_reader_close(struct ld_reader *reader)
{
    struct ld_core *core = reader->core;

    if (!core)
        return;
    ld_view_close(core->mounts, &reader->rootfs.fs, &reader->view);
    ld_pins_drop(core->pins, reader->rootfs.chain.sid, reader->rootfs.chain.n);
    ld_pins_drop(core->pins, &reader->container.upper_sid, 1);
    ld_rootfs_done(&reader->rootfs);
    ld_container_done(&reader->container);
    reader->core = NULL;
}
