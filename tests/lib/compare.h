/* A real tree against a tree of the model. */
#pragma once

#include "daemon/base/buf.h"
#include "tests/lib/model.h"

/* Type, mode, owner, device numbers, targets, sizes and content of files, link structure, xattrs
 * (but overlay's own), modification times, the root included. `dir`: the real root. Each difference
 * is a line in diff; true when there is none. */
enum m_compare_flags {
    M_LINK_COUNTS = 1 << 0, /* st_nlink is the number of names in the layer a file is from */
};
bool m_compare(const struct m_node *model, int dir, unsigned flags, struct ld_buf *diff);
