/* What the tests of image/ share: seeds, awkward sources, a tree with every kind of entry, archives
 * of it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/base/buf.h"
#include "daemon/image/sink.h"
#include "daemon/image/source.h"

/* LD_TEST_SEED, else another one each time; printed, so that a failure can be repeated. */
uint64_t ld_test_seed(void);
uint64_t ld_test_random(uint64_t *state);                   /* 64 bits */
uint64_t ld_test_below(uint64_t *state, uint64_t limit);    /* 0 … limit - 1 */
void ld_test_fill(uint64_t *state, void *data, size_t len); /* compresses about to a half */

/* Gives what `below` gives in pieces of 1 … max bytes. max 1: byte for byte. */
struct ld_source *ld_test_drip_new(struct ld_source *below, size_t max, uint64_t seed);

/* Everything a source gives; the buffer's ceiling is 64 MiB. The source's result: 0 or -1. */
int ld_test_slurp(struct ld_source *src, struct ld_buf *ret, struct ld_err *err);
/* A file of the test's directory as a buffer; asserts that it can be read. */
struct ld_buf ld_test_file(const char *path);
void ld_test_put_file(const char *path, const void *data, size_t len);

/* Makes ld_test_dir()/tree: all types, sizes around blocks, holes, links, long and odd names,
 * xattrs of any bytes, owners and times out of every field's range. */
void ld_test_tar_tree(void);
/* Makes archives of the tree by GNU tar in all its forms and by libarchive; calls fn for each. */
void ld_test_tar_corpus(void (*fn)(const char *path, void *arg), void *arg);
/* An archive of random entries by libarchive ("pax", "gnutar", "ustar", "v7tar"). */
void ld_test_tar_random(const char *path, const char *format, unsigned entries, uint64_t *state);
