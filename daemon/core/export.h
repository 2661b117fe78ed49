/* A container's tree as a tar: the whole root, or the changes as an OCI layer. Blocking; stream
 * lane. */
#pragma once

#include <stdbool.h>

#include "daemon/base/err.h"

struct ld_core;
struct ld_reader;
struct ld_sink;

/* The whole root through a view without parts: what is mounted in the container is not in it. */
int ld_export_root(const struct ld_reader *reader, struct ld_sink *sink, const bool *cancel,
                   struct ld_err *err);

/* The changes against the image, exactly: applied to the image they give the container's tree. When
 * one name of a multi-linked file is in it, all of its names are. bad_content: a name that begins
 * with
 * ".wh.", which a layer can't say. */
int ld_export_diff(struct ld_core *core, const char *id, struct ld_sink *sink, const bool *cancel,
                   struct ld_err *err);
