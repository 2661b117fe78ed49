/* Random entries for layered trees: few names, so that they meet each other, and everything a tar
 * can say. The same seed gives the same entries. What is made lives until m_free_all. */
#pragma once

#include "tests/lib/mktar.h"
#include "tests/lib/model.h"

enum { M_RECENT = 24 };

struct m_random {
    uint64_t state;
    const char *recent[M_RECENT]; /* names given lately: later ones like to mean them */
    size_t n_recent;
};

uint64_t m_random(struct m_random *r, uint64_t below);
static inline bool m_chance(struct m_random *r, unsigned one_in)
{
    return m_random(r, one_in) == 0;
}

struct m_entry m_random_entry(struct m_random *r);
/* Writes an entry in some dialect that can say it. */
void m_random_write(struct m_random *r, struct ld_buf *tar, const struct m_entry *e);
/* The end of an archive, in one of its forms. */
void m_random_end(struct m_random *r, struct ld_buf *tar);
