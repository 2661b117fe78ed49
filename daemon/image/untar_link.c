/* Hard links. A target that this layer does not have is a file of the layers below: an empty inode
 * stands for it until settle fills it in place. ASIDE/lN is one more name of it, so that settle
 * finds it whatever became of the others, and a second link to the same target joins it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/table.h"
#include "daemon/image/untar_impl.h"

enum {
    MAX_LINKS = 65536, /* to distinct names of lower layers */
    MAX_LINKS_BYTES = 8 << 20,
};

struct ld_untar_link {
    uint64_t n;
    ino_t ino;
    UT_hash_handle hh; /* by target */
    UT_hash_handle hh_ino;
    char target[];
};

void ld_untar_links_done(struct ld_untar *u)
{
    HASH_CLEAR(hh_ino, u->by_ino);
    ld_table_drain(hh, u->by_target, free);
}

struct link_name {
    char text[24];
};

static struct link_name link_name(const struct ld_untar_link *link)
{
    struct link_name name;

    (void)snprintf(name.text, sizeof(name.text), "l%" PRIu64, link->n); /* 21 at most */
    return name;
}

static bool is_same_inode(int a_dir, const char *a, int b_dir, const char *b)
{
    struct stat sa, sb;

    return fstatat(a_dir, a, &sa, AT_SYMLINK_NOFOLLOW) == 0 &&
           fstatat(b_dir, b, &sb, AT_SYMLINK_NOFOLLOW) == 0 && sa.st_ino == sb.st_ino &&
           sa.st_dev == sb.st_dev;
}

/* from_dir/from gets the entry's name too, whatever has it now. */
static int link_here(struct ld_untar *u, int from_dir, const char *from, const char *name,
                     struct ld_err *err)
{
    int dir = ld_dirs_top(u->dirs);

    if (linkat(from_dir, from, dir, name, 0) == 0)
        return 0;
    if (errno == EEXIST) {
        if (is_same_inode(from_dir, from, dir, name))
            return 0;
        if (ld_untar_replace(u, dir, name, err) < 0)
            return -1;
        if (linkat(from_dir, from, dir, name, 0) == 0)
            return 0;
    }
    return ld_untar_sys(u, -errno, "make the hard link", err);
}

static int note_link(struct ld_untar *u, const struct ld_untar_link *link, const char *name,
                     struct ld_err *err)
{
    autofree char *path = ld_untar_path(u->dirs, name);
    struct ld_pending_note note = {
        .kind = LD_NOTE_LINK, .path = path, .number = link->n, .target = link->target};

    return ld_pending_add(u->out.pending, &note, err);
}

static int new_link(struct ld_untar *u, const char *target, struct ld_untar_link **ret,
                    struct ld_err *err)
{
    size_t len = strlen(target);
    int aside = ld_untar_aside(u, err);
    autoclose int fd = -EBADF;
    autofree struct ld_untar_link *link = NULL;
    struct stat st;

    if (aside < 0)
        return -1;
    if (u->n_links >= MAX_LINKS || u->links_bytes + len > MAX_LINKS_BYTES)
        return ld_untar_over(u, err, "links_to_lower_layers", MAX_LINKS,
                             "the number of hard links to files of lower layers");
    link = ld_alloc0(sizeof(*link) + len + 1);
    link->n = u->n_links;
    memcpy(link->target, target, len);
    fd = openat(aside, link_name(link).text, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0 || fstat(fd, &st) < 0)
        return ld_untar_sys(u, -errno, "make a file for", err);
    link->ino = st.st_ino;
    u->n_links++;
    u->links_bytes += len;
    HASH_ADD_KEYPTR(hh, u->by_target, link->target, len, link);
    HASH_ADD(hh_ino, u->by_ino, ino, sizeof(link->ino), link);
    *ret = ld_steal(&link);
    return 0;
}

static int link_lower(struct ld_untar *u, const char *target, const char *name, struct ld_err *err)
{
    struct ld_untar_link *link;

    HASH_FIND(hh, u->by_target, target, strlen(target), link);
    if (!link && new_link(u, target, &link, err) < 0)
        return -1;
    if (link_here(u, u->aside_fd, link_name(link).text, name, err) < 0)
        return -1;
    return note_link(u, link, name, err);
}

/* The target is in this layer. */
static int link_own(struct ld_untar *u, const char *target, const struct stat *st, const char *name,
                    struct ld_err *err)
{
    autofree char *path = ld_untar_path(u->targets, target);
    autofree char *own = ld_untar_path(u->dirs, name);
    size_t len = strlen(own);
    struct ld_untar_link *link;

    if (S_ISDIR(st->st_mode))
        return ld_untar_refuse(u, err, "it is a hard link to the directory '%.200s'", path);
    if (strncmp(path, own, len) == 0 && path[len] == '/')
        return ld_untar_refuse(u, err, "it is a hard link to a file that it replaces");
    if (link_here(u, ld_dirs_top(u->targets), target, name, err) < 0)
        return -1;
    HASH_FIND(hh_ino, u->by_ino, &st->st_ino, sizeof(st->st_ino), link);
    return link ? note_link(u, link, name, err) : 0;
}

int ld_untar_hardlink(struct ld_untar *u, const char *name, struct ld_err *err)
{
    autobuf struct ld_buf missing = LD_BUF_INIT(LD_TAR_MAX_PATH);
    autofree char *path = NULL;
    char *target;
    struct stat st;

    if (ld_untar_clean(u, u->entry.linkname, true, u->target, err) < 0)
        return -1;
    target = strrchr(u->target, '/');
    if (u->target[0] == '\0')
        return ld_untar_refuse(u, err, "it is a hard link to the layer's root");
    if (target)
        *target++ = '\0';
    else
        target = u->target;
    if (strncmp(target, ".wh.", 4) == 0)
        return ld_untar_refuse(u, err, "it is a hard link to a whiteout");
    if (ld_untar_follow(u, u->targets, target == u->target ? "" : u->target, &missing, err) < 0)
        return -1;
    if (missing.len == 0) {
        if (fstatat(ld_dirs_top(u->targets), target, &st, AT_SYMLINK_NOFOLLOW) == 0)
            return link_own(u, target, &st, name, err);
        if (errno != ENOENT)
            return ld_untar_sys(u, -errno, "look at the target of", err);
    } else {
        ld_buf_addc(&missing, '/');
    }
    ld_buf_adds(&missing, target);
    path = ld_untar_path(u->targets, ld_buf_str(&missing));
    if (ld_buf_check(&missing) < 0 || strlen(path) > PATH_MAX)
        return ld_untar_refuse(u, err, "the path of its target is too long");
    return link_lower(u, path, name, err);
}
