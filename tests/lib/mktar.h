/* Writing tars of every dialect, odd ones too, from entries of the model. Shares nothing with the
 * daemon's own writer. */
#pragma once

#include "daemon/base/buf.h"
#include "tests/lib/model.h"

enum mt_dialect { MT_USTAR, MT_GNU, MT_PAX };

/* How a file with holes is said; MT_DENSE: zeros are written out. */
enum mt_sparse { MT_DENSE, MT_OLD_GNU, MT_PAX_0_0, MT_PAX_0_1, MT_PAX_1_0 };

struct mt_style {
    enum mt_dialect dialect;
    enum mt_sparse sparse;
    bool has_dirty_padding; /* bytes after a payload are not zeros */
};

/* False, and nothing is written: this dialect cannot say the entry (long names, xattrs, fractions
 * of seconds, large numbers). */
bool mt_add(struct ld_buf *tar, const struct m_entry *e, const struct mt_style *style);
void mt_end(struct ld_buf *tar); /* the two zero blocks */

/* The plain thing, for tests of one case: pax, aborts when it cannot be said. */
void mt_put(struct ld_buf *tar, const struct m_entry *e);
