/* Committed layers as tar: see layer_tar.h. */
#include "daemon/core/layer_tar.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/core/layer_names.h"
#include "daemon/core/state.h"
#include "daemon/image/recipe.h"
#include "daemon/image/sink.h"

/* A removal moves a layer from layers/ to trash/, never back. */
int ld_layer_open_part(struct ld_core *core, ld_sid sid, const char *suffix, int flags)
{
    struct ld_layer_name name = ld_layer_name(sid, suffix);
    int fd;

    flags |= O_RDONLY | O_NOFOLLOW | O_CLOEXEC;
    fd = openat(core->root.layers_fd, name.text, flags);
    if (fd < 0 && errno == ENOENT)
        fd = openat(core->root.trash_fd, name.text, flags);
    return fd < 0 ? -errno : fd;
}

int ld_layer_open(struct ld_core *core, ld_sid sid, struct ld_err *err)
{
    int fd = ld_layer_open_part(core, sid, "", O_DIRECTORY);

    if (fd == -ENOENT)
        return ld_err_set(err, LD_E_NOT_FOUND, "layer %" LD_PRI_SID " has no directory", sid);
    return fd < 0 ? ld_err_sys(err, fd, "open layer %" LD_PRI_SID, sid) : fd;
}

/* A part that must be there. */
static int must_open(struct ld_core *core, ld_sid sid, const char *suffix, const char *what,
                     int flags, struct ld_err *err)
{
    int fd = ld_layer_open_part(core, sid, suffix, flags);

    if (fd == -ENOENT)
        return ld_err_set(err, LD_E_CORRUPT, "its %s is missing", what);
    return fd < 0 ? ld_err_sys(err, fd, "open its %s", what) : fd;
}

/* Containers and imports find out from the record; an image imported again repairs it. A layer that
 * was removed meanwhile has no record to be marked. */
static void record_damage(struct ld_core *core, ld_sid sid, const struct ld_err *why)
{
    struct ld_err err = LD_ERR_INIT;

    ld_error("layer %" LD_PRI_SID ": %s", sid, why->message);
    if (ld_store_layer_set_damage(core->store, &LD_WRITE_SELF, sid, why->message, &err) < 0 &&
        err.code != LD_E_NOT_FOUND)
        ld_warn("record the damage of layer %" LD_PRI_SID ": %s", sid, err.message);
}

static int finish(struct ld_core *core, ld_sid sid, const struct ld_digest *diff_id, int rc,
                  struct ld_err *err)
{
    char text[LD_DIGEST_TEXT];

    if (rc == 0)
        return 0;
    if (err->code == LD_E_CORRUPT)
        record_damage(core, sid, err);
    ld_digest_format(diff_id, text);
    return ld_err_prefix(err, "layer %s", text);
}

static int read_size(struct ld_core *core, ld_sid sid, uint64_t *ret, struct ld_err *err)
{
    autoclose int fd = must_open(core, sid, ".recipe", "recipe", 0, err);

    return fd < 0 ? -1 : ld_recipe_size(fd, ret, err);
}

int ld_layer_tar_size(struct ld_core *core, ld_sid sid, const struct ld_digest *diff_id,
                      uint64_t *ret, struct ld_err *err)
{
    return finish(core, sid, diff_id, read_size(core, sid, ret, err), err);
}

static int replay(struct ld_core *core, ld_sid sid, struct ld_sink *sink, const bool *cancel,
                  struct ld_err *err)
{
    autoclose int recipe = must_open(core, sid, ".recipe", "recipe", 0, err);
    autoclose int root = recipe < 0 ? -1 : must_open(core, sid, "", "directory", O_DIRECTORY, err);
    autoclose int aside = -EBADF;
    struct ld_recipe_layer layer;

    if (recipe < 0 || root < 0)
        return -1;
    aside = ld_layer_open_part(core, sid, ".aside", O_DIRECTORY);
    if (aside < 0 && aside != -ENOENT)
        return ld_err_sys(err, aside, "open what its recipe keeps aside");
    layer = (struct ld_recipe_layer){.recipe_fd = recipe, .root_fd = root, .aside_fd = aside};
    return ld_recipe_replay(&layer, sink, cancel, err);
}

static int replay_verified(struct ld_core *core, ld_sid sid, const struct ld_digest *diff_id,
                           struct ld_sink *sink, const bool *cancel, struct ld_err *err)
{
    auto_sink *hashed = ld_sink_digest_new(sink);
    struct ld_digest got;

    if (replay(core, sid, hashed, cancel, err) < 0)
        return -1;
    got = ld_sink_digest_final(hashed);
    if (ld_digest_equal(&got, diff_id))
        return 0;
    return ld_err_set(err, LD_E_CORRUPT, "its content is not that of its diff ID any more");
}

int ld_layer_write_tar(struct ld_core *core, ld_sid sid, const struct ld_digest *diff_id,
                       struct ld_sink *sink, const bool *cancel, struct ld_err *err)
{
    return finish(core, sid, diff_id, replay_verified(core, sid, diff_id, sink, cancel, err), err);
}
