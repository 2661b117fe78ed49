/* Between the files of the tar reader; nobody else includes it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/image/tar.h"

enum {
    LD_TAR_BLOCK_SIZE = 512,
    LD_TAR_MAX_GLOBAL = 16 << 10, /* bytes of all global headers: read again for each entry */
    LD_TAR_MAX_EXTENSIONS = 64,   /* headers in front of one entry */
};

/* -- tar_header.c: one block ------------------------------------------------------------------- */

struct ld_tar_header {
    char name[155 + 1 + 100 + 1];
    char linkname[100 + 1];
    char type; /* '\0' is kept: in v7 a directory is such an entry whose name ends in '/' */
    uint32_t mode;
    uint64_t uid, gid, size; /* uid and gid not yet checked: pax may give others */
    int64_t mtime;
    uint64_t devmajor, devminor;
};

/* All zero: one of the two blocks that end an archive. */
bool ld_tar_block_is_zero(const uint8_t block[LD_TAR_BLOCK_SIZE]);
/* Errors are bad_content and name the field, not the entry. */
int ld_tar_header_parse(const uint8_t block[LD_TAR_BLOCK_SIZE], struct ld_tar_header *ret,
                        struct ld_err *err);
/* A numeric field: octal text or base-256, both of any length up to 12. */
int ld_tar_number(const uint8_t *field, size_t len, int64_t *ret);

/* -- tar_sparse.c: which parts of a file are in the archive --------------------------------------
 */

struct ld_tar_segment {
    uint64_t offset; /* in the file */
    uint64_t len;
};

struct ld_tar_map {
    struct ld_tar_segment *segments;
    size_t n;
    size_t cap;
};

int ld_tar_map_add(struct ld_tar_map *map, uint64_t offset, uint64_t len, struct ld_err *err);
/* Adds what one header or extension block of the old GNU form holds; *ret_more: another block
 * follows. */
int ld_tar_map_add_block(struct ld_tar_map *map, const uint8_t *block, bool is_header,
                         bool *ret_more, struct ld_err *err);
/* "offset,len,offset,len": pax form 0.1. Changes text. */
int ld_tar_map_add_text(struct ld_tar_map *map, char *text, struct ld_err *err);
/* Drops empty segments; the rest must be in order, apart, inside the file, and `stored` bytes in
 * sum. */
int ld_tar_map_check(struct ld_tar_map *map, uint64_t file_size, uint64_t stored,
                     struct ld_err *err);

/* -- tar_pax.c: records of extended headers ------------------------------------------------------
 */

enum ld_tar_pax_has {
    LD_TAR_PAX_SIZE = 1 << 0,
    LD_TAR_PAX_UID = 1 << 1,
    LD_TAR_PAX_GID = 1 << 2,
    LD_TAR_PAX_MTIME = 1 << 3,
    LD_TAR_PAX_REAL_SIZE = 1 << 4,
    LD_TAR_PAX_BLOCKS = 1 << 5,
};

enum ld_tar_sparse { LD_TAR_NOT_SPARSE, LD_TAR_SPARSE_0, LD_TAR_SPARSE_1 };

struct ld_tar_pax {
    unsigned has;                /* enum ld_tar_pax_has */
    const char *path, *linkpath; /* NULL: not given */
    uint64_t size;
    uint64_t uid, gid;
    int64_t mtime_sec;
    uint32_t mtime_nsec;
    struct ld_tar_xattr xattrs[LD_TAR_MAX_XATTRS];
    size_t n_xattrs;
    size_t xattr_records; /* those that replace an earlier one too: each is searched for */
    bool means_something; /* a record was one that we know */
    /* GNU.sparse.*; the map of form 0 goes where `map` points */
    const char *sparse_name, *sparse_major, *sparse_minor;
    uint64_t real_size, n_blocks;
    bool has_map, offset_pending;
    uint64_t offset;
    struct ld_tar_map *map;
};

/* Puts the records of `data` on top of what *pax has; data is changed and must live as long as pax.
 */
int ld_tar_pax_parse(struct ld_tar_pax *pax, char *data, size_t len, struct ld_err *err);
/* Does a global header only set what may be set globally? */
int ld_tar_pax_check_global(const struct ld_tar_pax *pax, struct ld_err *err);
/* Which sparse form the records describe; an unknown version is an error. */
int ld_tar_pax_sparse(const struct ld_tar_pax *pax, enum ld_tar_sparse *ret, struct ld_err *err);
