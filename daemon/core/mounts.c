/* The table of what is mounted, and attaching: see mounts.h and mounts_priv.h. Any worker. */
#include "daemon/core/mounts_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/base/mountapi.h"
#include "daemon/base/parse.h"

struct ld_mounts *ld_mounts_new(const struct ld_root *root, const struct ld_driver_env *env,
                                struct ld_lanes *lanes)
{
    struct ld_mounts *m = ld_new(struct ld_mounts);

    m->root = root;
    m->env = env;
    m->lanes = lanes;
    pthread_mutex_init(&m->lock, NULL);
    return m;
}

static void entry_free(struct ld_mount_entry *e)
{
    ld_close(e->kept);
    ld_free_p(&e->target);
    ld_part_ids_done(&e->target_parts);
    ld_part_ids_done(&e->parts);
    pthread_mutex_destroy(&e->work);
    free(e);
}

void ld_mounts_free(struct ld_mounts *m)
{
    if (!m)
        return;
    ld_table_drain(hh, m->entries, entry_free);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

struct ld_mount_entry *ld_mounts_enter(struct ld_mounts *m, ld_sid sid)
{
    struct ld_mount_entry *e;

    pthread_mutex_lock(&m->lock);
    HASH_FIND(hh, m->entries, &sid, sizeof(sid), e);
    if (!e) {
        e = ld_new(struct ld_mount_entry);
        e->sid = sid;
        e->kept = -EBADF;
        pthread_mutex_init(&e->work, NULL);
        HASH_ADD(hh, m->entries, sid, sizeof(sid), e);
    }
    e->refs++;
    pthread_mutex_unlock(&m->lock);
    pthread_mutex_lock(&e->work);
    return e;
}

void ld_mounts_leave(struct ld_mounts *m, struct ld_mount_entry *e)
{
    pthread_mutex_unlock(&e->work);
    pthread_mutex_lock(&m->lock);
    /* Only the last one may look at the fields under `work`: whoever was in after us has left, too.
     */
    if (--e->refs == 0 && !e->mount_id && !e->is_held && e->kept < 0 && !e->views &&
        !e->is_staged && !e->target) {
        HASH_DEL(m->entries, e);
        entry_free(e);
    }
    pthread_mutex_unlock(&m->lock);
}

void ld_entry_set(struct ld_mounts *m, struct ld_mount_entry *e, uint64_t mount_id, bool is_held)
{
    pthread_mutex_lock(&m->lock);
    e->mount_id = mount_id;
    e->is_held = is_held;
    pthread_mutex_unlock(&m->lock);
}

bool ld_entry_is_attached(struct ld_mounts *m, struct ld_mount_entry *e)
{
    uint64_t id;

    if (!e->mount_id)
        return false;
    if (ld_mount_id(m->root->mnt_fd, e->id, &id, NULL) == 0 && id == e->mount_id)
        return true;
    ld_part_ids_done(&e->parts); /* unmounted behind our back: the kernel is right */
    ld_entry_set(m, e, 0, e->is_held);
    return false;
}

enum ld_mount_state ld_mounts_state(struct ld_mounts *m, const char *id, ld_sid sid)
{
    enum ld_mount_state state = LD_UNMOUNTED;
    struct ld_mount_entry *e;
    uint64_t want = 0, is;

    pthread_mutex_lock(&m->lock);
    HASH_FIND(hh, m->entries, &sid, sizeof(sid), e);
    if (e) {
        want = e->mount_id;
        state = e->is_held ? LD_HELD : LD_UNMOUNTED;
    }
    pthread_mutex_unlock(&m->lock);
    if (want && ld_mount_id(m->root->mnt_fd, id, &is, NULL) == 0 && is == want)
        return LD_MOUNTED;
    return state;
}

bool ld_mounts_device(struct ld_mounts *m, ld_sid sid, dev_t *ret)
{
    struct ld_mount_entry *e;
    bool is_known;

    pthread_mutex_lock(&m->lock);
    HASH_FIND(hh, m->entries, &sid, sizeof(sid), e);
    is_known = e && e->dev && (e->mount_id || e->is_held);
    if (is_known)
        *ret = e->dev;
    pthread_mutex_unlock(&m->lock);
    return is_known;
}

/* Called once it is shown at mnt/ID. */
static void note_device(struct ld_mounts *m, struct ld_mount_entry *e)
{
    struct stat st;
    bool is_seen = fstatat(m->root->mnt_fd, e->id, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) == 0;

    pthread_mutex_lock(&m->lock);
    e->dev = is_seen ? st.st_dev : 0;
    pthread_mutex_unlock(&m->lock);
}

bool ld_entry_probe(struct ld_mounts *m, struct ld_mount_entry *e, const struct ld_rootfs *spec)
{
    struct ld_err err = LD_ERR_INIT;
    bool held = false;

    if (e->kept >= 0 || e->views || e->is_staged)
        return e->is_held; /* our own count too: nothing new can be learned */
    if (spec->driver->in_use(spec->env, &spec->writable, &held, &err) < 0 && err.errnum == ENOENT) {
        held = false; /* removed meanwhile: what holds it is the reaper's to find out */
    } else if (err.code) {
        ld_warn("probe of writable layer %" LD_PRI_SID ": %s", e->sid, err.message);
        held = true; /* unknown is not free */
    }
    ld_entry_set(m, e, e->mount_id, held);
    return held;
}

enum ld_mount_state ld_mounts_probe(struct ld_mounts *m, const struct ld_rootfs *spec)
{
    struct ld_mount_entry *e = ld_mounts_enter(m, spec->writable.sid);
    enum ld_mount_state state = LD_MOUNTED;

    if (!ld_entry_is_attached(m, e))
        state = ld_entry_probe(m, e, spec) ? LD_HELD : LD_UNMOUNTED;
    ld_mounts_leave(m, e);
    return state;
}

enum ld_mount_state ld_mounts_settle(struct ld_mounts *m, const struct ld_rootfs *spec)
{
    struct ld_mount_entry *e = ld_mounts_enter(m, spec->writable.sid);
    enum ld_mount_state state = LD_MOUNTED;

    if (!ld_entry_is_attached(m, e) && !e->views && !e->is_staged) {
        ld_entry_close_kept(e);
        state = spec->was_mounted && ld_entry_probe(m, e, spec) ? LD_HELD : LD_UNMOUNTED;
    }
    ld_mounts_leave(m, e);
    return state;
}

bool ld_mounts_let_go(struct ld_mounts *m, ld_sid sid)
{
    struct ld_mount_entry *e = ld_mounts_enter(m, sid);
    bool is_free = !ld_entry_is_attached(m, e) && !e->views && !e->is_staged;

    if (is_free) {
        ld_entry_close_kept(e);
        ld_entry_set(m, e, 0, false);
    }
    ld_mounts_leave(m, e);
    return is_free;
}

int ld_mounts_open_place(struct ld_mounts *m, const char *id)
{
    int fd = openat(m->root->mnt_fd, id, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

size_t ld_mounts_count(struct ld_mounts *m)
{
    struct ld_mount_entry *e, *next;
    size_t n = 0;

    pthread_mutex_lock(&m->lock);
    HASH_ITER (hh, m->entries, e, next) {
        n += e->mount_id != 0;
    }
    pthread_mutex_unlock(&m->lock);
    return n;
}

/* ---- attaching ---- */

static int held_error(struct ld_err *err)
{
    (void)ld_err_set(
        err, LD_E_BUSY,
        "the container's writable layer is held by a process in another mount namespace");
    return ld_err_hint(err, "a second mount would corrupt it: end that process, then try again");
}

int ld_entry_mount_at_stage(struct ld_mounts *m, struct ld_mount_entry *e,
                            const struct ld_rootfs *spec, const char *name, struct ld_err *err)
{
    int dir = ld_ensure_dir(m->root->stage_fd, name, 0700);
    int r = dir < 0 ? dir : 0;

    ld_close(dir);
    if (r < 0)
        return ld_err_sys(err, r, "make the stage of container '%s'", spec->id);
    if (e->is_staged) { /* another name for what a view has mounted at stage/SID */
        autoclose int clone = ld_mount_clone(m->root->stage_fd, ld_sid_name(e->sid).text, 0);

        r = clone < 0 ? clone : ld_mount_put_at(clone, m->root->stage_fd, name);
    } else if (e->kept >= 0) {
        r = ld_mount_set_rdonly(e->kept, false); /* it may come from a read-only mount */
        if (r == 0)
            r = ld_mount_put_at(e->kept, m->root->stage_fd, name);
        ld_close_p(&e->kept); /* an fd left open on an attached mount is EBUSY for ever */
    } else {
        if (spec->was_mounted && ld_entry_probe(m, e, spec))
            return held_error(err);
        return spec->driver->mount(spec->env, &spec->writable,
                                   spec->is_volatile ? LD_MOUNT_VOLATILE : 0, err);
    }
    return r < 0 ? ld_err_sys(err, r, "mount container '%s' again", spec->id) : 0;
}

/* Drops a half-built stage. Nobody can be in it. */
static void drop_stage(struct ld_mounts *m, struct ld_mount_entry *e, const char *name,
                       const struct ld_rootfs *spec)
{
    int k = ld_mount_clone(m->root->stage_fd, name, 0);

    if (ld_umount_at(m->root->stage_fd, name, true) == 0)
        ld_entry_keep(m, e, k, spec, false);
    else
        ld_close(k);
    (void)unlinkat(m->root->stage_fd, name,
                   AT_REMOVEDIR); /* at the latest the next start does it */
}

/* What is built at stage/NAME becomes mnt/ID. */
static int show(struct ld_mounts *m, struct ld_mount_entry *e, const struct ld_rootfs *spec,
                const char *name, struct ld_err *err)
{
    int dir = ld_ensure_dir(m->root->mnt_fd, spec->id, 0700);
    int r = dir < 0 ? dir : 0;
    uint64_t id = 0;

    ld_close(dir);
    if (r == 0)
        r = ld_mount_move(m->root->stage_fd, name, m->root->mnt_fd, spec->id);
    if (r == 0)
        r = ld_mount_id(m->root->mnt_fd, spec->id, &id, NULL);
    if (r < 0)
        return ld_err_sys(err, r, "show container '%s' at its mount point", spec->id);
    memcpy(e->id, spec->id, strlen(spec->id) + 1); /* 64 hex digits: checked by the caller */
    ld_entry_set(m, e, id, false);
    note_device(m, e);
    (void)unlinkat(m->root->stage_fd, name,
                   AT_REMOVEDIR); /* at the latest the next start does it */
    return 0;
}

static int build(struct ld_mounts *m, struct ld_mount_entry *e, const struct ld_rootfs *spec,
                 const char *name, struct ld_err *err)
{
    autoclose int top = -EBADF;
    int r;

    if (ld_entry_is_at_target(m, e)) {
        (void)ld_err_set(err, LD_E_BUSY, "it is mounted at its target '%s' still, though not here",
                         e->target);
        return ld_err_hint(err, "unmount it first");
    }
    if (ld_entry_mount_at_stage(m, e, spec, name, err) < 0)
        return -1;
    top = openat(m->root->stage_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (top < 0)
        return ld_err_sys(err, -errno, "open the stage of container '%s'", spec->id);
    ld_part_ids_done(&e->parts);
    if (ld_parts_mount(m->root, spec, m->env, top, &e->parts, err) < 0)
        return -1;
    r = spec->read_only ? ld_mount_set_rdonly(top, true) : 0;
    return r < 0 ? ld_err_sys(err, r, "make container '%s' read-only", spec->id) : 0;
}

int ld_mounts_attach(struct ld_mounts *m, const struct ld_rootfs *spec, bool *ret_was,
                     struct ld_err *err)
{
    struct ld_mount_entry *e;
    char name[32];
    int rc = 0;

    if (!ld_is_hex(spec->id, 64))
        return ld_err_set(err, LD_E_INTERNAL, "container id '%s' is not an id", spec->id);
    e = ld_mounts_enter(m, spec->writable.sid);
    *ret_was = ld_entry_is_attached(m, e);
    if (!*ret_was) {
        (void)snprintf(name, sizeof(name), "%s%s", ld_sid_name(e->sid).text,
                       e->is_staged ? "-m" : "");
        rc = build(m, e, spec, name, err);
        /* The target first: what is mounted at mnt/ID is there as well. */
        if (rc == 0 && spec->target)
            rc = ld_entry_show_target(m, e, spec, m->root->stage_fd, name, err);
        if (rc == 0 && show(m, e, spec, name, err) < 0) {
            struct ld_err ignored = LD_ERR_INIT;

            (void)ld_entry_drop_target(m, e, spec, &ignored);
            rc = -1;
        }
        if (rc < 0)
            drop_stage(m, e, name, spec);
    }
    ld_mounts_leave(m, e);
    return rc;
}

/* ---- the start ---- */

struct sweep {
    struct ld_mounts *m;
    char *prefix; /* RUN/mnt/ */
};

/* "layerd:INSTANCE:TEXT": the text; NULL: an overlay of others. */
static const char *text_of_source(const char *instance, const char *source)
{
    size_t len = strlen(instance);

    if (strncmp(source, "layerd:", 7) != 0 || strncmp(source + 7, instance, len) != 0 ||
        source[7 + len] != ':')
        return NULL;
    return source + 7 + len + 1;
}

/* An overlay by its source, a bind by its root ".../w/SID/root". */
ld_sid ld_mounts_sid_of(const char *instance, const struct ld_mountinfo *line)
{
    autofree char *root = ld_strdup(line->root);
    const char *text = NULL;
    uint64_t sid = 0;

    if (strcmp(line->fstype, "overlay") == 0) {
        text = text_of_source(instance, line->source);
    } else {
        char *end = strrchr(root, '/');
        char *name;

        if (!end || strcmp(end, "/root") != 0)
            return 0;
        *end = '\0';
        name = strrchr(root, '/');
        if (name && name - root >= 2 && strncmp(name - 2, "/w", 2) == 0)
            text = name + 1;
    }
    return text && ld_parse_u64(text, 1, UINT64_MAX, &sid) == 0 ? sid : 0;
}

bool ld_mounts_is_ours(const char *instance, const struct ld_mountinfo *line)
{
    return text_of_source(instance, line->source) || ld_mounts_sid_of(instance, line);
}

/* The superblocks of overlays are always writable: one that is not was being captured when we were
 * killed. */
static void make_writable(const struct sweep *s, const char *id, const struct ld_mountinfo *line)
{
    autoclose int fd = -EBADF;
    int r;

    if (strcmp(line->fstype, "overlay") != 0 || strncmp(line->super_options, "ro", 2) != 0 ||
        (line->super_options[2] && line->super_options[2] != ','))
        return;
    fd = ld_mounts_open_place(s->m, id);
    r = fd < 0 ? fd : ld_mount_set_sb_rdonly(fd, false);
    if (r < 0)
        ld_error("container '%s' is read-only and can't be made writable again: %s", id,
                 strerrordesc_np(-r));
    else
        ld_info("container '%s' was being captured: it is writable again", id);
}

static int adopt(void *arg, const struct ld_mountinfo *line)
{
    struct sweep *s = arg;
    size_t len = strlen(s->prefix);
    struct ld_mount_entry *e;
    const char *id = line->mountpoint + len;
    ld_sid sid;
    uint64_t mount_id;

    if (strncmp(line->mountpoint, s->prefix, len) != 0 || !ld_is_hex(id, 64))
        return 0;
    sid = ld_mounts_sid_of(s->m->env->instance, line);
    if (!sid || ld_mount_id(s->m->root->mnt_fd, id, &mount_id, NULL) < 0)
        return 0;
    e = ld_mounts_enter(s->m, sid);
    memcpy(e->id, id, 65);
    ld_entry_set(s->m, e, mount_id, false);
    note_device(s->m, e);
    ld_mounts_leave(s->m, e);
    make_writable(s, id, line);
    return 0;
}

int ld_mounts_sweep(struct ld_mounts *m, struct ld_err *err)
{
    struct sweep s = {.m = m};
    int r;

    s.prefix = ld_asprintf("%s/mnt/", m->root->run_path);
    r = ld_mountinfo_each(adopt, &s);
    free(s.prefix);
    return r < 0 ? ld_err_sys(err, r, "read /proc/self/mountinfo") : 0;
}
