/* A store with something in it, for tests of the records and of what stands on them. */
#pragma once

#include "daemon/store/store.h"

/* Opens the store below dir as the daemon would; the test fails when it does not open. */
struct ld_store *ld_test_store(int dir);

/* 64 hex digits, the same for the same number; valid until the next 64 calls. */
const char *ld_test_id(unsigned n);

/* An image of `n` new layers on the image `on` (NULL: on nothing), with reference `ref` (or NULL),
 * each layer of 1000 bytes. Returns its id, free it. */
char *ld_test_image(struct ld_store *store, unsigned number, const char *on, size_t n,
                    const char *ref);

/* A container of an image (NULL: none) with up to one volume (NULL: none), named `name` (or NULL).
 */
int ld_test_container(struct ld_store *store, unsigned number, const char *name,
                      const char *image_id, const char *volume_id, struct ld_err *err);
int ld_test_volume(struct ld_store *store, unsigned number, const char *name, struct ld_err *err);

/* The types of all events, in order, separated by blanks; free it. */
char *ld_test_events(struct ld_store *store);
