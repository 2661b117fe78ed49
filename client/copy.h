/* `layerctl cp`: files and trees between this machine and a container or a volume. Blocking; one
 * thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "client/cli.h"
#include "client/object.h"

/* "NAME:PATH" or "@VOLUME:PATH" taken apart; what holds a slash before its colon, or no colon, is a
 * path of this machine. */
struct ld_place {
    enum ld_kind kind; /* of the owner: a container or a volume */
    char *owner;       /* NULL: this machine */
    char *path;        /* absolute inside an owner; "-" alone is standard input or output */
};

/* kind: what a name without '@' is of. */
void ld_place_parse(const char *text, enum ld_kind kind, struct ld_place *ret);
void ld_place_done(struct ld_place *place);
/* The last component of a path without trailing slashes and "/." ("/" for the root); malloc'd. */
char *ld_place_name(const char *path);
/* Does the path end in "/." (what a directory holds, not the directory)? */
bool ld_place_is_content(const char *path);

#define autoplace LD_AUTO(ld_place_done)

struct ld_copy {
    const struct ld_place *from, *to;
    bool owners; /* keep uid and gid */
    bool follow; /* a symlink named as the source is followed */
    bool quiet;
};
int ld_copy_run(struct ld_cli *cli, const struct ld_copy *copy, struct ld_err *err) ld_must_check;

/* Attributes of a file in a container or volume. */
struct ld_remote_file {
    char type[16]; /* "file", "directory", "symlink", … */
    unsigned mode;
    uint32_t uid, gid;
    uint64_t size;
    int64_t mtime_sec;
    uint32_t mtime_nsec;
    char *target; /* of a symlink, else NULL */
};
void ld_remote_file_done(struct ld_remote_file *info);
#define autoremotefile LD_AUTO(ld_remote_file_done)

/* HEAD …/files: a missing file is LD_E_NOT_FOUND, naming it. */
int ld_file_stat(struct ld_cli *cli, const struct ld_place *of, const char *path,
                 struct ld_remote_file *ret, struct ld_err *err) ld_must_check;

struct ld_buf;
/* Appends the URL of a file's resource; of `of` only the owner counts. */
int ld_file_url(const struct ld_place *of, const char *path, struct ld_buf *url,
                struct ld_err *err) ld_must_check;
