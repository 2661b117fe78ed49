/* The table of an outer tar: see archive_index.h. Nothing is extracted, names are only compared: a
 * name that leads out of the archive is one that nothing can match. Names lie in one arena; the
 * table is sorted once after the scan. */
#include "daemon/image/archive_index.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/base/err.h"
#include "daemon/base/mem.h"
#include "daemon/image/archive.h"
#include "daemon/image/source.h"
#include "daemon/image/tar.h"

enum {
    MAX_ARENA = 16 << 20, /* bytes of all names and targets */
    MAX_HOPS = 40,        /* links followed, as the kernel's limit */
};

struct entry {
    uint64_t offset, size;
    uint32_t name, target; /* in the arena, cleaned; target of links only */
    uint32_t sequence;
    enum ld_tar_type type;
    bool is_sparse;
    bool is_lost; /* a link whose target leaves the archive */
};

struct ld_archive_index {
    struct entry *entries;
    size_t n, cap;
    char *arena;
    size_t arena_len, arena_cap;
    uint64_t count;
    bool is_over; /* more than the table takes: only the markers count */
    struct ld_archive_markers markers;
};

/* Appends the components of `path` to out (cleaned so far, *len bytes): "." and empty ones vanish,
 * ".." takes one away. False: it leaves the archive or is too long. */
static bool append_path(char out[LD_TAR_MAX_PATH + 1], size_t *len, const char *path)
{
    while (*path) {
        size_t n = strcspn(path, "/");

        if (n == 2 && memcmp(path, "..", 2) == 0) {
            char *slash = memrchr(out, '/', *len);

            if (*len == 0)
                return false;
            *len = slash ? (size_t)(slash - out) : 0;
        } else if (n > 0 && !(n == 1 && path[0] == '.')) {
            if (*len + 1 + n > LD_TAR_MAX_PATH)
                return false;
            if (*len > 0)
                out[(*len)++] = '/';
            memcpy(out + *len, path, n);
            *len += n;
        }
        path += n;
        path += *path == '/';
    }
    out[*len] = '\0';
    return true;
}

static bool clean_path(char out[LD_TAR_MAX_PATH + 1], const char *path)
{
    size_t len = 0;

    return append_path(out, &len, path);
}

/* Where a symlink at `name` (clean) leads. An absolute target starts at the archive's root. */
static bool clean_target(char out[LD_TAR_MAX_PATH + 1], const char *name, const char *target)
{
    const char *slash = target[0] == '/' ? NULL : strrchr(name, '/');
    size_t len = slash ? (size_t)(slash - name) : 0;

    memcpy(out, name, len);
    return append_path(out, &len, target);
}

static uint32_t add_text(struct ld_archive_index *index, const char *text)
{
    size_t len = strlen(text) + 1;
    size_t at = index->arena_len;

    ld_grow(&index->arena, &index->arena_cap, at + len, 1);
    memcpy(index->arena + at, text, len);
    index->arena_len += len;
    return (uint32_t)at; /* below MAX_ARENA */
}

static void add_markers(struct ld_archive_markers *m, const char *name)
{
    size_t len = strlen(name);
    static const char layer[] = "/layer.tar";

    m->oci_layout |= strcmp(name, "oci-layout") == 0;
    m->index_json |= strcmp(name, "index.json") == 0;
    m->manifest_json |= strcmp(name, "manifest.json") == 0;
    m->repositories |= strcmp(name, "repositories") == 0;
    m->layer_tar |= len > strlen(layer) && strcmp(name + len - strlen(layer), layer) == 0;
}

static void drop_table(struct ld_archive_index *index)
{
    free(ld_steal(&index->entries));
    free(ld_steal(&index->arena));
    index->n = index->cap = index->arena_len = index->arena_cap = 0;
    index->is_over = true;
}

static void add_entry(struct ld_archive_index *index, const struct ld_tar *tar,
                      const struct ld_tar_entry *e)
{
    char name[LD_TAR_MAX_PATH + 1];
    char target[LD_TAR_MAX_PATH + 1] = "";
    struct entry *to;

    index->count++;
    if (e->type == LD_TAR_DIR || !clean_path(name, e->name) || !name[0])
        return;
    add_markers(&index->markers, name);
    if (index->is_over)
        return;
    if (index->n == LD_ARCHIVE_MAX_ENTRIES || index->arena_len > MAX_ARENA) {
        drop_table(index);
        return;
    }
    ld_grow(&index->entries, &index->cap, index->n + 1, sizeof(*index->entries));
    to = &index->entries[index->n];
    *to =
        (struct entry){.type = e->type, .sequence = (uint32_t)index->n, .is_sparse = e->is_sparse};
    if (e->type == LD_TAR_SYMLINK)
        to->is_lost = !clean_target(target, name, e->linkname);
    else if (e->type == LD_TAR_HARDLINK)
        to->is_lost = !clean_path(target, e->linkname);
    to->name = add_text(index, name);
    if (e->type == LD_TAR_SYMLINK || e->type == LD_TAR_HARDLINK)
        to->target = add_text(index, to->is_lost ? "" : target);
    to->offset = ld_tar_payload_offset(tar);
    to->size = ld_tar_payload_size(tar);
    index->n++;
}

static int compare_entries(const void *a, const void *b, void *arg)
{
    const struct entry *x = a, *y = b;
    const char *arena = arg;
    int order = strcmp(arena + x->name, arena + y->name);

    if (order == 0)
        order = x->sequence < y->sequence ? -1 : 1;
    return order;
}

/* By name, each once: as with an unpacked archive, the last entry of a name is the one that counts.
 */
static void sort_table(struct ld_archive_index *index)
{
    size_t kept = 0;

    if (index->n == 0)
        return;
    qsort_r(index->entries, index->n, sizeof(*index->entries), compare_entries, index->arena);
    for (size_t i = 0; i < index->n; i++) {
        const char *name = index->arena + index->entries[i].name;

        if (i + 1 < index->n && strcmp(name, index->arena + index->entries[i + 1].name) == 0)
            continue;
        index->entries[kept++] = index->entries[i];
    }
    index->n = kept;
}

int ld_archive_index_scan(int fd, uint64_t size, const bool *cancel, struct ld_archive_index **ret,
                          struct ld_err *err)
{
    LD_AUTO(ld_archive_index_free_p)
    struct ld_archive_index *index = ld_new(struct ld_archive_index);
    struct ld_tar_limits limits = {.max_entries = UINT64_MAX}; /* a layer's own limit comes later */
    auto_source *source = ld_source_fd_new(fd, 0, size);
    auto_tar *tar = ld_tar_new(source, &limits, NULL);
    struct ld_tar_entry entry;
    int r;

    while ((r = ld_tar_next(tar, &entry, err)) > 0) {
        if (cancel && __atomic_load_n(cancel, __ATOMIC_RELAXED))
            return ld_err_sys(err, -ECANCELED, "read the archive");
        add_entry(index, tar, &entry);
    }
    if (r < 0)
        return -1;
    sort_table(index);
    *ret = ld_steal(&index);
    return 0;
}

void ld_archive_index_free(struct ld_archive_index *index)
{
    if (!index)
        return;
    free(index->entries);
    free(index->arena);
    free(index);
}

void ld_archive_index_free_p(struct ld_archive_index **index)
{
    ld_archive_index_free(ld_steal(index));
}

uint64_t ld_archive_index_count(const struct ld_archive_index *index)
{
    return index->count;
}

bool ld_archive_index_is_whole(const struct ld_archive_index *index)
{
    return !index->is_over;
}

const struct ld_archive_markers *ld_archive_index_markers(const struct ld_archive_index *index)
{
    return &index->markers;
}

static const struct entry *find_entry(const struct ld_archive_index *index, const char *name)
{
    size_t low = 0;
    size_t high = index->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct entry *e = &index->entries[middle];
        int order = strcmp(name, index->arena + e->name);

        if (order == 0)
            return e;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

int ld_archive_index_find(const struct ld_archive_index *index, const char *name,
                          struct ld_archive_span *ret, struct ld_err *err)
{
    char clean[LD_TAR_MAX_PATH + 1];
    const struct entry *e = clean_path(clean, name) ? find_entry(index, clean) : NULL;

    for (int hops = 0; e && (e->type == LD_TAR_SYMLINK || e->type == LD_TAR_HARDLINK); hops++) {
        if (hops == MAX_HOPS)
            return ld_err_set(err, LD_E_BAD_CONTENT,
                              "the links at '%.200s' in the archive lead in a "
                              "circle",
                              name);
        e = e->is_lost ? NULL : find_entry(index, index->arena + e->target);
    }
    if (!e)
        return ld_err_set(err, LD_E_BAD_CONTENT, "'%.200s' is not in the archive", name);
    if (e->type != LD_TAR_FILE)
        return ld_err_set(err, LD_E_BAD_CONTENT, "'%.200s' in the archive is no regular file",
                          name);
    if (e->is_sparse) {
        (void)ld_err_set(err, LD_E_BAD_CONTENT, "'%.200s' is stored sparse in the archive", name);
        return ld_err_hint(err, "pack the archive without tar's --sparse");
    }
    *ret = (struct ld_archive_span){.offset = e->offset, .size = e->size};
    return 0;
}
