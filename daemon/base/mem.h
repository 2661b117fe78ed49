/* Memory. Sizes fixed by the code: allocation failure aborts. Sizes that come from outside are
 * bounded by the caller's limit and may fail. Any thread. All results are freed by free(). */
#pragma once

#include <stddef.h>

#include "daemon/base/cleanup.h"

/* Zeroed; aborts when there is no memory. */
void *ld_alloc0(size_t size) __attribute__((malloc, returns_nonnull, alloc_size(1)));
#define ld_new(type) ((type *)ld_alloc0(sizeof(type)))

char *ld_strdup(const char *s) __attribute__((malloc, returns_nonnull));
char *ld_strndup(const char *s, size_t len) __attribute__((malloc, returns_nonnull));
char *ld_memdup(const void *data, size_t len) __attribute__((malloc, returns_nonnull)); /* + NUL */
char *ld_asprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2), returns_nonnull));

/* Zeroed; NULL with errno E2BIG over the limit, ENOMEM without memory. */
void *ld_try_alloc(size_t size, size_t limit) ld_must_check;

/* Grows *array (of `item` bytes each) so that it holds at least `want` items, doubling; *cap is in
 * items. New items are zeroed. Aborts when there is no memory: bound `want` first. */
void ld_grow(void *array, size_t *cap, size_t want, size_t item);
