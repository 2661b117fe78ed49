/* The merge rule: what one name of a chain of layers comes to. See tree_merge.h. */
#include "daemon/base/tree_merge.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "daemon/base/buf.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"

enum { NAME_BYTES = 256, PATH_BYTES_MAX = 1 << 26 };

void ld_merge_parts_done(struct ld_merge_parts *p)
{
    for (size_t i = 0; i < p->n; i++)
        ld_close(p->item[i].fd);
    free(p->item);
    *p = (struct ld_merge_parts){.n = 0};
}

void ld_merge_done(struct ld_merge *m)
{
    ld_merge_parts_done(&m->parts);
}

/* The whiteouts of mkcomposefs and of unprivileged overlays in overlays: an empty file with an
 * xattr, in a directory that says it holds such. Returns 1, 0, -errno. */
static int is_xattr_whiteout(int at, const char *name, const struct stat *st)
{
    struct ld_fd_path dir = ld_fd_path(at);
    char path[sizeof(dir.path) + 1 + NAME_BYTES];
    int len;

    if (!S_ISREG(st->st_mode) || st->st_size != 0)
        return 0;
    len = snprintf(path, sizeof(path), "%s/%s", dir.path, name);
    if (len < 0 || (size_t)len >= sizeof(path))
        return -ENAMETOOLONG;
    if (lgetxattr(path, LD_XATTR_OVERLAY "whiteout", NULL, 0) >= 0)
        return 1;
    return errno == ENODATA || errno == EOPNOTSUPP || errno == ENOENT ? 0 : -errno;
}

int ld_merge_look(const struct ld_merge *m, const struct ld_merge_part *p, int at, struct stat *ret)
{
    if (fstatat(at, m->name, ret, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? LD_LOOK_ABSENT : -errno;
    if (S_ISDIR(ret->st_mode))
        return LD_LOOK_DIR;
    if (m->form == LD_FORM_LAYER && ld_mark_is_whiteout(ret))
        return LD_LOOK_WHITEOUT;
    if (p->has_xattr_whiteouts) {
        int r = is_xattr_whiteout(at, m->name, ret);

        if (r != 0)
            return r < 0 ? r : LD_LOOK_WHITEOUT;
    }
    return LD_LOOK_OTHER;
}

int ld_merge_part_init(struct ld_merge_part *p, size_t layer, int fd, enum ld_form form,
                       char *ret_mark)
{
    struct stat st;
    int r = 0;

    *ret_mark = '\0';
    if (fstat(fd, &st) < 0)
        return -errno;
    if (form == LD_FORM_LAYER)
        r = ld_mark_get_opaque(fd, ret_mark);
    if (r < 0)
        return r;
    *p = (struct ld_merge_part){.layer = layer,
                                .fd = fd,
                                .dev = st.st_dev,
                                .ino = st.st_ino,
                                .has_xattr_whiteouts = *ret_mark == 'x'};
    return 0;
}

int ld_merge_step(struct ld_merge *m, const struct ld_merge_part *p, int at)
{
    struct stat st;
    char mark = '\0';
    int look = ld_merge_look(m, p, at, &st);

    if (look <= LD_LOOK_ABSENT)
        return look;
    if (m->is_found && look != LD_LOOK_DIR) {
        m->node.is_closed = true;
        return 1;
    }
    if (look == LD_LOOK_DIR) {
        autoclose int fd = ld_open_dir(at, m->name);
        int r;

        if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
            return 0; /* gone since the look: only in a tree in use, which has one layer */
        if (fd < 0)
            return fd;
        ld_grow(&m->parts.item, &m->parts.cap, m->parts.n + 1, sizeof(*m->parts.item));
        r = ld_merge_part_init(&m->parts.item[m->parts.n], p->layer, fd, m->form, &mark);
        if (r < 0)
            return r;
        m->parts.n++;
        (void)ld_steal_fd(&fd);
    }
    if (!m->is_found) {
        m->is_found = true;
        m->node.st = st;
        m->node.layer = p->layer;
        m->node.form = m->form;
        m->node.is_whiteout = look == LD_LOOK_WHITEOUT;
        m->node.is_opaque = look == LD_LOOK_DIR && mark == 'y';
    }
    m->node.is_merged = m->parts.n > 1;
    m->node.is_closed = look == LD_LOOK_DIR && mark == 'y';
    return look != LD_LOOK_DIR || mark == 'y';
}

int ld_merge_root(const struct ld_layers *layers, struct ld_merge_parts *ret,
                  struct ld_node *ret_node)
{
    struct ld_merge_part *item;

    ld_grow(&ret->item, &ret->cap, layers->n, sizeof(*ret->item));
    item = ret->item;
    for (size_t i = 0; i < layers->n; i++) {
        char mark;
        int r = ld_merge_part_init(&item[i], i, layers->root[i], layers->form, &mark);

        if (r < 0)
            return r;
        item[i].fd = -EBADF;
        ret->n = i + 1;
    }
    *ret_node = (struct ld_node){.path = "/",
                                 .name = ".",
                                 .dir = layers->root[0],
                                 .form = layers->form,
                                 .is_merged = layers->n > 1};
    return fstat(layers->root[0], &ret_node->st) < 0 ? -errno : 0;
}

char *ld_merge_clean_path(const char *path)
{
    autobuf struct ld_buf text = LD_BUF_INIT(PATH_BYTES_MAX);

    while (*path) {
        size_t len = strcspn(path, "/");

        if ((len == 1 && path[0] == '.') || (len == 2 && path[0] == '.' && path[1] == '.'))
            return NULL;
        if (len > 0) {
            ld_buf_addc(&text, '/');
            ld_buf_add(&text, path, len);
        }
        path += len + (path[len] == '/');
    }
    if (text.len == 0)
        ld_buf_addc(&text, '/');
    return ld_buf_check(&text) < 0 ? NULL : ld_buf_take(&text);
}
