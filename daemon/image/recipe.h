/* The recipe of a layer: what is needed to write its uncompressed tar again, byte for byte, from
 * the unpacked layer: literal bytes, and which parts of which file go between them.
 *
 * Written while the tar passes (as the tee of a tar reader or writer) into one file,
 * zstd-compressed. File paths are relative to the layer's root, real (no symlink in them), without
 * "." and "..". A file that a later entry of the same tar replaces is moved aside to ASIDE/N, where
 * replay finds it.
 *
 * One thread per object. Blocks on files. The file is not synced here.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/base/err.h"
#include "daemon/image/sink.h"
#include "daemon/image/source.h"
#include "daemon/image/tar.h"

struct ld_recipe; /* a recipe being written */

/* fd: an empty file at its start, borrowed. */
struct ld_recipe *ld_recipe_new(int fd);
void ld_recipe_free(struct ld_recipe *recipe); /* without finish the file is no recipe */
void ld_recipe_free_p(struct ld_recipe **recipe);
#define auto_recipe LD_AUTO(ld_recipe_free_p) struct ld_recipe

/* The tee that feeds it; valid as long as the recipe. */
struct ld_tar_tee ld_recipe_tee(struct ld_recipe *recipe);

/* Payload told from now on (until the next call) lies in this file of the layer. Call it after
 * ld_tar_next and before the first ld_tar_data; for payload that is kept in no file take no data:
 * it becomes literal by itself. */
int ld_recipe_file(struct ld_recipe *recipe, const char *path, struct ld_err *err);

/* What has been at `path` so far, a file or a directory with all that is below it, now is ASIDE/n.
 */
int ld_recipe_moved(struct ld_recipe *recipe, const char *path, uint64_t n, struct ld_err *err);

/* Writes what is left. The recipe is complete when this succeeded. */
int ld_recipe_finish(struct ld_recipe *recipe, struct ld_err *err);

/* Descriptors of a layer; all borrowed. aside_fd may be -1 when nothing was moved. */
struct ld_recipe_layer {
    int recipe_fd; /* read by pread: may be shared */
    int root_fd;
    int aside_fd;
};

/* Writes the tar to the sink. Code corrupt: the recipe is damaged, or a file is missing, no regular
 * file, or too short (changed content is not noticed: compare the digest). `cancel` may be NULL. */
int ld_recipe_replay(const struct ld_recipe_layer *layer, struct ld_sink *sink, const bool *cancel,
                     struct ld_err *err);

/* Bytes of the tar that replay gives. Code corrupt: no whole recipe. */
int ld_recipe_size(int recipe_fd, uint64_t *ret, struct ld_err *err);

/* The tar with zeros in place of the files' content, as a source for ld_tar_new: a cheap second
 * pass over the headers (ld_tar_next passes over content without making it). */
int ld_recipe_headers_new(int recipe_fd, struct ld_source **ret, struct ld_err *err);
