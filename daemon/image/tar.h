/* Reading tar: v7, ustar, pax and GNU, as a pull parser over a source, in bounded memory.
 *
 * Where readers differ we do what the peers' reader (Go's archive/tar) does, since a layer must
 * unpack here as it does there:
 *  - the archive ends at two zero blocks, or at the end of the stream on a block boundary or inside
 *    the padding of the last entry; one zero block followed by another one is refused;
 *  - what follows the two zero blocks belongs to the stream (the tee sees it) and means nothing;
 *  - links, devices, fifos and directories have no payload, whatever their size field says;
 *  - only SCHILY.xattr.* become xattrs. Values are any bytes; an empty value is an empty xattr.
 * Global pax headers count for uid, gid, mtime and xattrs; one that sets a path or size is refused.
 * GNU volume labels are passed over; continued members (multi-volume) and unknown types are
 * refused.
 *
 * One thread. What the entry points to is valid until the next call of ld_tar_next.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/err.h"
#include "daemon/image/source.h"

enum ld_tar_type {
    LD_TAR_FILE,
    LD_TAR_HARDLINK,
    LD_TAR_SYMLINK,
    LD_TAR_CHAR,
    LD_TAR_BLOCK,
    LD_TAR_FIFO,
    LD_TAR_DIR,
};

struct ld_tar_xattr {
    const char *name; /* "user.x": at most 255 bytes, not empty */
    const void *value;
    size_t len;
};

struct ld_tar_entry {
    const char *name;     /* as written: not cleaned, may be absolute, hold "..", end in '/' */
    const char *linkname; /* hard link and symlink: not empty; else "" */
    enum ld_tar_type type;
    uint32_t mode;     /* 07777 */
    uint32_t uid, gid; /* never (uint32_t)-1 */
    uint64_t size;     /* of the file, holes included; 0 for all other types */
    int64_t mtime_sec;
    uint32_t mtime_nsec; /* 0 … 999,999,999, added to mtime_sec also when that is negative */
    uint32_t devmajor, devminor;
    const struct ld_tar_xattr *xattrs; /* each name once, in no particular order */
    size_t n_xattrs;
    bool is_sparse;  /* what ld_tar_data does not give are holes; else it gives all of it */
    uint64_t number; /* 1 for the first entry of the archive */
};

/* Told everything that passes, in order, so that the stream can be written again: payload the
 * caller took by ld_tar_data as `payload` (offset in the file), all the rest (headers, padding,
 * payload not taken, what follows the end) as `literal`. A result of -1 with err filled ends the
 * reading. */
struct ld_tar_tee {
    int (*literal)(void *arg, const void *data, size_t len, struct ld_err *err);
    int (*payload)(void *arg, uint64_t offset, uint64_t len, struct ld_err *err);
    void *arg;
};

struct ld_tar_limits {
    uint64_t max_entries;   /* 0: LD_TAR_MAX_ENTRIES */
    uint64_t max_file_size; /* 0: none; with holes */
};

enum {
    LD_TAR_MAX_ENTRIES = 2000000,
    LD_TAR_MAX_PATH = 4096,        /* bytes of a name or of a hard link's target */
    LD_TAR_MAX_TARGET = 4095,      /* bytes of a symlink's target */
    LD_TAR_MAX_PAX = 1 << 20,      /* bytes of one extended header */
    LD_TAR_MAX_XATTRS = 256,       /* per entry */
    LD_TAR_MAX_XATTR = 64 << 10,   /* bytes of one value, as the kernel has it */
    LD_TAR_MAX_SEGMENTS = 1 << 18, /* of one sparse file */
};

struct ld_tar;

/* Source and tee (NULL: none) are borrowed. Reads nothing yet; cannot fail. */
struct ld_tar *ld_tar_new(struct ld_source *source, const struct ld_tar_limits *limits,
                          const struct ld_tar_tee *tee);
void ld_tar_free(struct ld_tar *tar);
void ld_tar_free_p(struct ld_tar **tar);
#define auto_tar LD_AUTO(ld_tar_free_p) struct ld_tar

/* The next entry: 1; 0 at the end, when the source has been read to its end; -1 with err:
 * bad_content naming the entry and the reason, or what source and tee said. After -1 only free.
 * Payload of the entry before that was not taken is passed over. */
int ld_tar_next(struct ld_tar *tar, struct ld_tar_entry *ret, struct ld_err *err);

/* A piece of the entry's content; points into the reader's buffer until the next call. */
struct ld_tar_piece {
    const void *data;
    size_t len;      /* > 0 */
    uint64_t offset; /* in the file; only grows; what is left out is a hole */
};
/* The next piece: 1; 0 after the last one; -1. A file without payload gives none. */
int ld_tar_data(struct ld_tar *tar, struct ld_tar_piece *ret, struct ld_err *err);

/* Where the payload of the entry just given starts in the stream, and its length there. Of an
 * uncompressed archive in a file, ld_source_fd_new can read it again later (unless is_sparse). */
uint64_t ld_tar_payload_offset(const struct ld_tar *tar);
uint64_t ld_tar_payload_size(const struct ld_tar *tar);

/* The content of the current entry as a source (holes are zeros), good until ld_tar_next. */
struct ld_source *ld_tar_content_new(struct ld_tar *tar);
