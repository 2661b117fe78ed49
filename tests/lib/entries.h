/* Short ways to write entries of the model, and one to make a layer of them and hold it against the
 * model. */
#pragma once

#include "tests/lib/model.h"
#include "tests/lib/stack.h"

/* mode 0 becomes 0644, of directories 0755. */
#define M_ENTRY(type_, name_, ...)                                                                 \
    {                                                                                              \
        .type = (type_), .name = (name_), ##__VA_ARGS__                                            \
    }
#define M_A_DIR(name_, ...)           M_ENTRY(M_DIR, name_, ##__VA_ARGS__)
#define M_A_FILE(name_, ...)          M_ENTRY(M_FILE, name_, ##__VA_ARGS__)
#define M_A_SYMLINK(name_, to_, ...)  M_ENTRY(M_SYMLINK, name_, .target = (to_), ##__VA_ARGS__)
#define M_A_HARDLINK(name_, to_, ...) M_ENTRY(M_HARDLINK, name_, .target = (to_), ##__VA_ARGS__)
/* A file of len bytes made of a seed. */
#define M_CONTENT(len_, seed_)                                                                     \
    .size = (len_), .n_segments = 1, .segment = (struct m_segment[1])                              \
    {                                                                                              \
        {                                                                                          \
            .len = (len_), .seed = (seed_)                                                         \
        }                                                                                          \
    }
#define M_XATTR(name_, value_) M_XATTR_LEN(name_, value_, sizeof(value_) - 1)
#define M_XATTR_LEN(name_, value_, len_)                                                           \
    .n_xattrs = 1, .xattr = (struct m_xattr[1])                                                    \
    {                                                                                              \
        {                                                                                          \
            .name = (name_), .value = (value_), .len = (len_)                                      \
        }                                                                                          \
    }

struct m_world {
    struct ld_test_stack stack;
    struct m_node *merged; /* what the model makes of the layers so far */
};

/* In the directory ld_test_dir()/store, made here. */
void m_world_init(struct m_world *w);
void m_world_done(struct m_world *w);

/* One more layer, as ld_test_stack_add. */
int m_world_try(struct m_world *w, const struct m_entry *e, size_t n, struct ld_err *err);
/* The same; asserts that it is taken, that the recipe writes the tar again, and that the chain,
 * copied by the merged view, is as the model says. */
void m_world_add(struct m_world *w, const struct m_entry *e, size_t n);
#define m_world_put(w, ...)                                                                        \
    m_world_add((w), (const struct m_entry[]){__VA_ARGS__},                                        \
                sizeof((const struct m_entry[]){__VA_ARGS__}) / sizeof(struct m_entry))
