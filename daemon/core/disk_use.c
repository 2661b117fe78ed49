/* Where the bytes below the data root are: see disk_use.h. */
#include "daemon/core/disk_use.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/core/damage.h"
#include "daemon/core/freeze.h"
#include "daemon/core/state.h"
#include "daemon/jobs/lane.h"

struct walk {
    struct ld_disk_use *use;
    const bool *cancel;
    int dir;
    struct ld_usage *into;
    size_t *count;                /* or NULL */
    const struct ld_quota *quota; /* what counts the names there, or NULL: they are walked */
    bool is_layers;
};

static void add(struct ld_usage *to, const struct ld_usage *what)
{
    to->bytes += what->bytes;
    to->inodes += what->inodes;
}

/* A committed layer itself is in the records; its recipe and aside, and layers/0, are not. */
static bool is_recorded(const struct walk *w, const char *name)
{
    return w->is_layers && strcmp(name, "0") != 0 && name[strspn(name, "0123456789")] == '\0';
}

static bool is_blob(const char *name)
{
    const char *dot = strchr(name, '.');

    return dot && strcmp(dot, ".blob") == 0;
}

static int count_name(void *arg, const char *name, unsigned char d_type)
{
    struct walk *w = arg;
    ld_sid sid = ld_sid_of_name(name);
    struct ld_usage usage;
    int r;

    (void)d_type;
    if (ld_flag_is_set(w->cancel))
        return -ECANCELED;
    if (is_recorded(w, name))
        return 0;
    r = w->quota && sid ? ld_quota_usage(w->quota, w->dir, name, sid, w->cancel, &usage)
                        : ld_tree_usage(w->dir, name, w->cancel, &usage);
    if (r == -ENOENT)
        return 0; /* it went meanwhile */
    if (r < 0)
        return r;
    add(w->is_layers && is_blob(name) ? &w->use->blobs : w->into, &usage);
    if (w->count)
        ++*w->count;
    return 0;
}

/* The folder itself goes to `other`, what is in it to `into`. */
static int count_folder(struct walk *w, int dir, struct ld_usage *into, size_t *count)
{
    struct stat st;

    if (fstat(dir, &st) < 0)
        return -errno;
    w->use->other.bytes += (uint64_t)st.st_blocks * 512;
    w->use->other.inodes++;
    w->dir = dir;
    w->into = into;
    w->count = count;
    return ld_each_name(dir, count_name, w);
}

static int count_file(void *arg, const char *name, unsigned char d_type)
{
    struct walk *w = arg;
    struct stat st;

    (void)d_type;
    if (fstatat(w->dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || S_ISDIR(st.st_mode))
        return 0;
    w->use->other.bytes += (uint64_t)st.st_blocks * 512;
    w->use->other.inodes++;
    return 0;
}

int ld_disk_use_get(struct ld_core *core, bool must_walk, const bool *cancel,
                    struct ld_disk_use *ret, struct ld_err *err)
{
    struct ld_disk_use use = {.writable_count = 0};
    struct walk w = {.use = &use, .cancel = cancel};
    const struct ld_root *root = &core->root;
    int r;

    if (ld_freeze_count(core, cancel, err) < 0 || ld_store_sums(core->store, &use.sums, err) < 0)
        return -1;
    use.trash = (struct ld_usage){.bytes = use.sums.trash_bytes, .inodes = use.sums.trash_inodes};
    w.quota = must_walk ? NULL : &core->env.quota;
    r = count_folder(&w, root->w_fd, &use.writable, &use.writable_count);
    if (r == 0)
        r = count_folder(&w, root->volumes_fd, &use.volumes, NULL);
    w.quota = NULL;
    if (r == 0)
        r = count_folder(&w, root->trash_fd, &use.trash, NULL);
    if (r == 0)
        r = count_folder(&w, root->quarantine_fd, &use.quarantine, NULL);
    if (r == 0)
        r = count_folder(&w, root->staging_fd, &use.staging, NULL);
    w.is_layers = true;
    if (r == 0)
        r = count_folder(&w, root->layers_fd, &use.other, NULL);
    if (r == 0) {
        struct ld_usage self = {.inodes = 1};
        struct stat st;

        w.dir = root->data_fd;
        r = fstat(root->data_fd, &st) < 0 ? -errno : ld_each_name(root->data_fd, count_file, &w);
        self.bytes = r == 0 ? (uint64_t)st.st_blocks * 512 : 0;
        add(&use.other, &self);
    }
    if (r < 0)
        return ld_err_sys(err, r, "count the data root");
    use.total = (struct ld_usage){.bytes = use.sums.layer_bytes, .inodes = use.sums.layer_inodes};
    add(&use.total, &use.writable);
    add(&use.total, &use.volumes);
    add(&use.total, &use.trash);
    add(&use.total, &use.quarantine);
    add(&use.total, &use.staging);
    add(&use.total, &use.blobs);
    add(&use.total, &use.other);
    *ret = use;
    return 0;
}

/* ---- the records held against the disk ---- */

struct check {
    struct ld_core *core;
    const bool *cancel;
    struct ld_disk_check *out;
    struct ld_usage recorded, found; /* of all layers */
    struct ld_err *err;
};

/* Whether a layer is recorded; -1: err. */
static int is_layer(struct check *c, const char *name)
{
    struct ld_layer layer LD_AUTO(ld_layer_done) = {.sid = 0};
    uint64_t sid;

    if (ld_parse_u64(name, 1, UINT64_MAX, &sid) < 0)
        return 0;
    if (ld_store_layer_get(c->core->store, sid, &layer, c->err) == 0)
        return 1;
    return c->err->code == LD_E_NOT_FOUND ? 0 : -1;
}

static int add_unknown(struct check *c, int dir, const char *name)
{
    struct ld_usage usage;
    int r = ld_tree_usage(dir, name, c->cancel, &usage);

    if (r == 0)
        add(&c->out->unknown, &usage);
    return r == -ENOENT ? 0 : r;
}

/* In layers/ a name of digits without a record is of nobody. */
static int look_at_layer_name(void *arg, const char *name, unsigned char d_type)
{
    struct check *c = arg;
    int known;

    (void)d_type;
    if (strcmp(name, "0") == 0 || name[strspn(name, "0123456789")] != '\0')
        return 0;
    known = is_layer(c, name);
    if (known < 0)
        return -EIO;
    return known ? 0 : add_unknown(c, c->core->root.layers_fd, name);
}

static int look_at_root_name(void *arg, const char *name, unsigned char d_type)
{
    static const char *const known[] = {"layers", "w", "volumes", "staging", "trash", "quarantine"};
    struct check *c = arg;
    struct stat st;

    (void)d_type;
    for (size_t i = 0; i < LD_ARRAY_LEN(known); i++) {
        if (strcmp(known[i], name) == 0)
            return 0;
    }
    if (fstatat(c->core->root.data_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
        return 0; /* a file is under `other` */
    return add_unknown(c, c->core->root.data_fd, name);
}

static int check_layer(struct check *c, const struct ld_layer *layer)
{
    struct ld_usage recorded = {.bytes = layer->bytes, .inodes = layer->inodes},
                    found = {.bytes = 0};
    int r = ld_tree_usage(c->core->root.layers_fd, ld_sid_name(layer->sid).text, c->cancel, &found);
    struct ld_disk_check *out = c->out;

    if (r < 0 && r != -ENOENT)
        return ld_err_sys(c->err, r, "count layer %" LD_PRI_SID, layer->sid);
    add(&c->recorded, &recorded);
    add(&c->found, &found);
    if (recorded.bytes == found.bytes && recorded.inodes == found.inodes)
        return 0;
    ld_grow(&out->surprise, &out->cap_surprises, out->n_surprises + 1, sizeof(*out->surprise));
    out->surprise[out->n_surprises++] = (struct ld_disk_surprise){
        .chain_id = layer->chain_id ? ld_strdup(layer->chain_id) : NULL,
        .recorded = recorded,
        .found = found,
    };
    return 0;
}

static int check_layers(struct check *c)
{
    uint64_t after = 0;

    do {
        struct ld_layer_page page LD_AUTO(ld_layer_page_done) = {.n = 0};

        if (ld_store_layer_list(c->core->store, after, 0, &page, c->err) < 0)
            return -1;
        for (size_t i = 0; i < page.n; i++) {
            if (ld_flag_is_set(c->cancel))
                return ld_err_set(c->err, LD_E_CANCELED, "the client has gone");
            if (check_layer(c, &page.item[i]) < 0)
                return -1;
        }
        after = page.next;
    } while (after);
    return 0;
}

int ld_disk_check(struct ld_core *core, const struct ld_disk_use *use, const bool *cancel,
                  struct ld_disk_check *ret, struct ld_err *err)
{
    struct ld_disk_check out LD_AUTO(ld_disk_check_done) = {.n_surprises = 0};
    struct check c = {.core = core, .cancel = cancel, .out = &out, .err = err};
    int r;

    if (check_layers(&c) < 0)
        return -1;
    r = ld_each_name(core->root.layers_fd, look_at_layer_name, &c);
    if (r == 0)
        r = ld_each_name(core->root.data_fd, look_at_root_name, &c);
    if (r < 0)
        return err->code ? -1 : ld_err_sys(err, r, "walk the data root");
    out.found = use->total;
    out.found.bytes += c.found.bytes + out.unknown.bytes - c.recorded.bytes;
    out.found.inodes += c.found.inodes + out.unknown.inodes - c.recorded.inodes;
    *ret = out;
    out = (struct ld_disk_check){.n_surprises = 0};
    return 0;
}

void ld_disk_check_done(struct ld_disk_check *check)
{
    for (size_t i = 0; i < check->n_surprises; i++)
        free(check->surprise[i].chain_id);
    free(check->surprise);
    *check = (struct ld_disk_check){.n_surprises = 0};
}
