/* The table of an outer tar: where each entry's content lies, links between entries resolved.
 *
 * Private to archive*.c. One thread; the scan blocks on the file, look-ups do not.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/cleanup.h"

struct ld_archive_index;
struct ld_archive_span;
struct ld_err;

/* Reads every header of the tar in fd, from 0 to size. An archive that has too many entries to be
 * one of images keeps only its markers (see is_whole). bad_content, io, canceled. */
int ld_archive_index_scan(int fd, uint64_t size, const bool *cancel, struct ld_archive_index **ret,
                          struct ld_err *err) ld_must_check;
void ld_archive_index_free(struct ld_archive_index *index);
void ld_archive_index_free_p(struct ld_archive_index **index);

uint64_t ld_archive_index_count(const struct ld_archive_index *index); /* entries seen */
bool ld_archive_index_is_whole(const struct ld_archive_index *index);

/* What the top level holds (files or links), known even when the table is not whole. */
struct ld_archive_markers {
    bool oci_layout;    /* oci-layout */
    bool index_json;    /* index.json */
    bool manifest_json; /* manifest.json */
    bool repositories;  /* repositories: all that engines before Docker 1.10 wrote */
    bool layer_tar;     /* ANYTHING/layer.tar, anywhere */
};
const struct ld_archive_markers *ld_archive_index_markers(const struct ld_archive_index *index);

/* The content of the regular file `name` (cleaned before it is looked up), through symlinks and
 * hard links between entries; where a name is there twice, the last one. bad_content: nothing by
 * that name, no regular file, links in a circle, stored sparse. */
int ld_archive_index_find(const struct ld_archive_index *index, const char *name,
                          struct ld_archive_span *ret, struct ld_err *err) ld_must_check;
