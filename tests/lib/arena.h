/* Memory of the model: taken bit by bit, given back all at once. */
#pragma once

#include <stddef.h>

void *m_alloc(size_t size); /* zeroed */
#define m_new(type) ((type *)m_alloc(sizeof(type)))
char *m_strdup(const char *s);
void *m_memdup(const void *data, size_t len);
char *m_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* As ld_grow. */
void m_grow(void *array, size_t *cap, size_t want, size_t item);
void m_free_all(void);
