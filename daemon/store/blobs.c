/* Blobs that are kept beside their layers: see store.h. A row goes with its layer's. */
#include <stdlib.h>

#include "daemon/base/mem.h"
#include "daemon/store/internal.h"

int ld_store_blob_get(struct ld_store *store, ld_sid sid, struct ld_kept_blob *ret,
                      struct ld_err *err)
{
    autoread read = {0};
    autosql stmt = NULL;
    int rc;

    if (ld_read_begin(store, LD_READ_POINT, &read, err) < 0)
        return -1;
    stmt = ld_sql(read.db, "SELECT digest, media_type, size FROM layer_blobs WHERE sid = ?1", err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, sid);
    rc = ld_sql_next(stmt, err);
    if (rc < 0)
        return -1;
    if (rc == 0)
        return ld_err_set(err, LD_E_NOT_FOUND, "no blob is kept of layer %" LD_PRI_SID, sid);
    *ret = (struct ld_kept_blob){.digest = ld_col_text(stmt, 0),
                                 .media_type = ld_col_text(stmt, 1),
                                 .size = ld_col_u64(stmt, 2)};
    return 0;
}

int ld_blob_put(struct ld_tx *tx, ld_sid sid, const struct ld_kept_blob *blob, struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db, "INSERT OR REPLACE INTO layer_blobs VALUES(?1, ?2, ?3, ?4)", err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, sid);
    ld_bind(stmt, 2, blob->digest);
    ld_bind(stmt, 3, blob->media_type);
    ld_bind(stmt, 4, blob->size);
    return ld_sql_done(stmt, err);
}

int ld_blob_forget(struct ld_tx *tx, ld_sid sid, struct ld_err *err)
{
    autosql stmt = ld_sql(tx->db, "DELETE FROM layer_blobs WHERE sid = ?1", err);

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, sid);
    return ld_sql_done(stmt, err);
}

static int forget(struct ld_tx *tx, void *arg, struct ld_err *err)
{
    return ld_blob_forget(tx, *(const ld_sid *)arg, err);
}

int ld_store_blob_forget(struct ld_store *store, const struct ld_write *w, ld_sid sid,
                         struct ld_err *err)
{
    return ld_store_write(store, w, LD_SYNC_FULL, forget, &sid, err);
}
