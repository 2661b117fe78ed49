/* Sums over the records, for df and info, and the check of the database. Nothing derived is stored:
 * SQL adds up what is there. */
#include <stdlib.h>
#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/store/internal.h"

/* Each image with each layer of its chain; UNION, not ALL, ends even on a circle. */
#define MEMBERS                                                                                    \
    "WITH RECURSIVE member(image, sid) AS ("                                                       \
    "  SELECT seq, tip_sid FROM images WHERE tip_sid IS NOT NULL AND removed_ns IS NULL"           \
    "  UNION"                                                                                      \
    "  SELECT m.image, l.parent_sid FROM member m JOIN layers l ON l.sid = m.sid"                  \
    "  WHERE l.parent_sid IS NOT NULL),"                                                           \
    " owners(sid, n) AS MATERIALIZED (SELECT sid, count(*) FROM member GROUP BY sid)"

/* A chain CTE: the tips that the seeds select, and all layers below. */
#define CHAINS(name, seeds)                                                                        \
    name "(sid) AS (" seeds "  UNION SELECT l.parent_sid FROM " name                               \
         " n JOIN layers l ON l.sid = n.sid WHERE l.parent_sid IS NOT NULL)"
/* Tips of images, of containers and of their snapshots, as far as these are in the trash or not. */
#define TIPS(removed_ns)                                                                           \
    "  SELECT tip_sid FROM images WHERE tip_sid IS NOT NULL AND " removed_ns                       \
    "  UNION SELECT parent_sid FROM containers WHERE parent_sid IS NOT NULL AND " removed_ns       \
    "  UNION SELECT s.tip_sid FROM snapshots s JOIN containers c ON c.id = s.owner_id"             \
    "    WHERE s.tip_sid IS NOT NULL AND c." removed_ns
#define LIVING CHAINS("living", TIPS("removed_ns IS NULL") " UNION SELECT layer_sid FROM held")
/* Layers that only the trash still needs. */
#define DEAD                                                                                       \
    LIVING "," CHAINS(                                                                             \
        "removed", TIPS("removed_ns IS NOT NULL")) ","                                             \
                                                   " dead(sid) AS MATERIALIZED (SELECT sid FROM "  \
                                                   "removed EXCEPT SELECT sid FROM living)"

int ld_store_sums(struct ld_store *store, struct ld_store_sums *ret, struct ld_err *err)
{
    autoread read = {0};
    autosql stmt = NULL;
    int rc;

    if (ld_read_begin(store, LD_READ_LIST, &read, err) < 0)
        return -1;
    stmt = ld_sql(read.db,
                  MEMBERS "," DEAD " SELECT count(*) FILTER (WHERE d.sid IS NULL),"
                          " coalesce(sum(bytes) FILTER (WHERE d.sid IS NULL), 0),"
                          " coalesce(sum(inodes) FILTER (WHERE d.sid IS NULL), 0),"
                          " coalesce(sum(bytes) FILTER (WHERE o.n > 1), 0),"
                          " coalesce(sum(bytes) FILTER (WHERE o.n IS NULL AND d.sid IS NULL), 0),"
                          " coalesce(sum(bytes) FILTER (WHERE d.sid IS NOT NULL), 0),"
                          " coalesce(sum(inodes) FILTER (WHERE d.sid IS NOT NULL), 0),"
                          " (SELECT count(*) FROM images WHERE removed_ns IS NULL),"
                          " (SELECT count(*) FROM refs),"
                          " (SELECT count(*) FROM containers WHERE removed_ns IS NULL),"
                          " (SELECT count(*) FROM volumes WHERE removed_ns IS NULL),"
                          " (SELECT count(*) FROM trash), count(damage)"
                          " + (SELECT count(damage) FROM containers WHERE removed_ns IS NULL)"
                          " + (SELECT count(damage) FROM volumes WHERE removed_ns IS NULL)"
                          " FROM layers l LEFT JOIN owners o ON o.sid = l.sid"
                          " LEFT JOIN dead d ON d.sid = l.sid",
                  err);
    if (!stmt)
        return -1;
    rc = ld_sql_next(stmt, err);
    if (rc < 0)
        return -1;
    *ret = (struct ld_store_sums){
        .layers = ld_col_u64(stmt, 0),
        .layer_bytes = ld_col_u64(stmt, 1),
        .layer_inodes = ld_col_u64(stmt, 2),
        .shared_bytes = ld_col_u64(stmt, 3),
        .unused_bytes = ld_col_u64(stmt, 4),
        .trash_bytes = ld_col_u64(stmt, 5),
        .trash_inodes = ld_col_u64(stmt, 6),
        .images = ld_col_u64(stmt, 7),
        .refs = ld_col_u64(stmt, 8),
        .containers = ld_col_u64(stmt, 9),
        .volumes = ld_col_u64(stmt, 10),
        .trash = ld_col_u64(stmt, 11),
        .damaged = ld_col_u64(stmt, 12),
    };
    return 0;
}

/* Chains of what is kept, and what it takes besides. */
#define KEPT                                                                                       \
    " kept(id, bytes) AS MATERIALIZED (SELECT owner_id, bytes FROM trash"                          \
    "   WHERE purge_ns > removed_ns AND (removed_ns, sid) > (?1, ?2)),"
#define KEPT_TIPS                                                                                  \
    "  SELECT tip_sid FROM images WHERE tip_sid IS NOT NULL"                                       \
    "    AND removed_ns IS NOT NULL AND id IN (SELECT id FROM kept)"                               \
    "  UNION SELECT parent_sid FROM containers WHERE parent_sid IS NOT NULL"                       \
    "    AND removed_ns IS NOT NULL AND id IN (SELECT id FROM kept)"                               \
    "  UNION SELECT s.tip_sid FROM snapshots s JOIN containers c"                                  \
    "    ON c.id = s.owner_id WHERE s.tip_sid IS NOT NULL"                                         \
    "    AND c.removed_ns IS NOT NULL AND c.id IN (SELECT id FROM kept)"

int ld_trash_kept_bytes(struct ld_db *db, struct ld_trash_cut after, uint64_t *ret,
                        struct ld_err *err)
{
    autosql stmt = ld_sql(
        db,
        "WITH RECURSIVE " LIVING "," KEPT CHAINS(
            "needed", KEPT_TIPS) " SELECT (SELECT coalesce(sum(bytes), 0) FROM kept)"
                                 " + (SELECT coalesce(sum(bytes), 0) FROM layers WHERE sid IN"
                                 "   (SELECT sid FROM needed EXCEPT SELECT sid FROM living))",
        err);
    int64_t bytes = 0;

    if (!stmt)
        return -1;
    ld_bind(stmt, 1, after.removed_ns);
    ld_bind(stmt, 2, after.sid);
    if (ld_sql_int(stmt, &bytes, err) < 0)
        return -1;
    *ret = (uint64_t)bytes;
    return 0;
}

/* ["id",…] */
static char *ids_json(const struct ld_gone_query *query)
{
    autobuf struct ld_buf buf = LD_BUF_INIT((query->n + 1) * 128);

    ld_buf_addc(&buf, '[');
    for (size_t i = 0; i < query->n; i++) {
        if (i > 0)
            ld_buf_addc(&buf, ',');
        ld_json_add(&buf, query->ids[i]);
    }
    ld_buf_addc(&buf, ']');
    return ld_buf_take(&buf);
}

int ld_store_layers_gone(struct ld_store *store, const struct ld_gone_query *query,
                         ld_gone_layer_fn sink, void *arg, struct ld_err *err)
{
    autofree char *ids = ids_json(query);
    autoread read = {0};
    autosql stmt = NULL;
    int r;

    if (ld_read_begin(store, LD_READ_LIST, &read, err) < 0)
        return -1;
    stmt = ld_sql(
        read.db,
        "WITH RECURSIVE gone(id, i) AS MATERIALIZED"
        "   (SELECT value, key FROM json_each(?1))," CHAINS(
            "kept",
            "  SELECT tip_sid FROM images WHERE tip_sid IS NOT NULL"
            "    AND (?2 = 0 OR removed_ns IS NULL)"
            "    AND id NOT IN (SELECT id FROM gone)"
            "  UNION SELECT parent_sid FROM containers WHERE parent_sid IS NOT NULL"
            "    AND (?2 = 0 OR removed_ns IS NULL)"
            "    AND id NOT IN (SELECT id FROM gone)"
            "  UNION SELECT s.tip_sid FROM snapshots s JOIN containers c"
            "    ON c.id = s.owner_id WHERE s.tip_sid IS NOT NULL"
            "    AND (?2 = 0 OR c.removed_ns IS NULL)"
            "    AND c.id NOT IN (SELECT id FROM gone)"
            "  UNION SELECT layer_sid FROM held") ", member(i, sid) AS ("
                                                  "  SELECT g.i, m.tip_sid FROM gone g JOIN images "
                                                  "m ON m.id = g.id"
                                                  "    WHERE m.tip_sid IS NOT NULL"
                                                  "  UNION SELECT g.i, c.parent_sid FROM gone g "
                                                  "JOIN containers c ON c.id = g.id"
                                                  "    WHERE c.parent_sid IS NOT NULL"
                                                  "  UNION SELECT g.i, s.tip_sid FROM gone g JOIN "
                                                  "snapshots s ON s.owner_id = g.id"
                                                  "    WHERE s.tip_sid IS NOT NULL"
                                                  "  UNION SELECT m.i, l.parent_sid FROM member m "
                                                  "JOIN layers l ON l.sid = m.sid"
                                                  "    WHERE l.parent_sid IS NOT NULL)"
                                                  " SELECT max(m.i), l.chain_id, l.bytes FROM "
                                                  "member m"
                                                  " JOIN layers l ON l.sid = m.sid WHERE l.sid NOT "
                                                  "IN (SELECT sid FROM kept)"
                                                  " GROUP BY l.sid ORDER BY max(m.i), l.sid DESC",
        err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, ids);
    ld_bind(stmt, 2, query->is_kept);
    while ((r = ld_sql_next(stmt, err)) > 0) {
        autofree char *chain_id = ld_col_text(stmt, 1);

        r = sink(arg, (size_t)ld_col_u64(stmt, 0), chain_id, ld_col_u64(stmt, 2));
        if (r != 0)
            return r;
    }
    return r;
}

int ld_store_check(struct ld_store *store, int (*sink)(void *arg, const char *problem), void *arg,
                   struct ld_err *err)
{
    autoread read = {0};
    autosql stmt = NULL;
    int r;

    if (ld_read_begin(store, LD_READ_LIST, &read, err) < 0)
        return -1;
    stmt = ld_sql(read.db, "PRAGMA quick_check(100)", err);
    if (!stmt)
        return -1;
    while ((r = ld_sql_next(stmt, err)) > 0) {
        const char *text = ld_col_peek(stmt, 0);

        if (strcmp(text, "ok") != 0 && (r = sink(arg, text)) != 0)
            return r;
    }
    return r;
}

int ld_store_image_usages(struct ld_store *store, uint64_t after, size_t limit,
                          struct ld_image_usage_page *ret, struct ld_err *err)
{
    LD_AUTO(ld_image_usage_page_done) struct ld_image_usage_page page = {0};
    struct ld_paging paging = LD_PAGING(limit);
    size_t cap = 0;
    autoread read = {0};
    autosql stmt = NULL;
    int rc;

    if (ld_read_begin(store, LD_READ_LIST, &read, err) < 0)
        return -1;
    stmt =
        ld_sql(read.db,
               MEMBERS " SELECT i.seq, i.id, coalesce(sum(CASE WHEN o.n > 1 THEN l.bytes END), 0),"
                       " coalesce(sum(CASE WHEN o.n = 1 THEN l.bytes END), 0)"
                       " FROM images i LEFT JOIN member m ON m.image = i.seq"
                       " LEFT JOIN owners o ON o.sid = m.sid LEFT JOIN layers l ON l.sid = m.sid"
                       " WHERE i.seq > ?1 AND i.removed_ns IS NULL"
                       " GROUP BY i.seq ORDER BY i.seq LIMIT ?2",
               err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, after);
    ld_bind(stmt, 2, paging.max + 1);
    while ((rc = ld_page_next(stmt, &paging, &page.next, err)) > 0) {
        ld_grow(&page.item, &cap, page.n + 1, sizeof(*page.item));
        page.item[page.n++] = (struct ld_image_usage){.id = ld_col_text(stmt, 1),
                                                      .shared = ld_col_u64(stmt, 2),
                                                      .unique = ld_col_u64(stmt, 3)};
    }
    if (rc < 0)
        return -1;
    *ret = ld_steal(&page);
    return 0;
}
