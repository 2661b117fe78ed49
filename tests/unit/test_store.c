/* daemon/store: opening and closing, sids, group commit, the schema, events, jobs. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/store/schema.h"
#include "daemon/store/store.h"
#include "tests/lib/env.h"
#include "tests/lib/store.h"

static struct ld_err err;

static bool has(int dir, const char *name)
{
    return faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* ---- opening ---- */

LD_TEST(store, opens_closes_and_keeps_its_identity)
{
    autoclose int dir = ld_test_mkdir("root");
    size_t fds = ld_test_count_fds();
    struct ld_store *store = ld_test_store(dir);
    autofree char *instance = ld_strdup(ld_store_instance(store));
    struct stat st;

    cr_assert_eq(strlen(instance), 16);
    cr_assert_not(ld_store_is_same_boot(store), "never open before");
    cr_assert_eq(fstatat(dir, "db", &st, 0), 0);
    cr_assert_eq(st.st_mode & 07777, 0600);
    cr_assert_eq(fstatat(dir, "db-wal", &st, 0), 0);
    cr_assert_eq(st.st_mode & 07777, 0600);
    ld_store_close(store);
    cr_assert_not(has(dir, "db-wal"), "a clean end leaves one file");

    store = ld_test_store(dir);
    cr_assert_str_eq(ld_store_instance(store), instance);
    cr_assert(ld_store_is_same_boot(store));
    ld_store_close(store);
    cr_assert_eq(ld_test_count_fds(), fds, "descriptors leak");
}

LD_TEST(store, knows_another_boot)
{
    autoclose int dir = ld_test_mkdir("root");
    struct ld_store_options options = {.boot_id = "one"};
    struct ld_store *store = NULL;

    ld_test_ok(ld_store_open(dir, &options, &store, &err), &err);
    cr_assert_str_eq(ld_store_boot_id(store), "one");
    ld_store_close(store);
    options.boot_id = "two";
    ld_test_ok(ld_store_open(dir, &options, &store, &err), &err);
    cr_assert_not(ld_store_is_same_boot(store));
    ld_store_close(store);
}

LD_TEST(store, refuses_what_is_no_database)
{
    autoclose int dir = ld_test_mkdir("root");
    autofree char *noise = ld_alloc0(8193);
    struct ld_store *store = NULL;

    memset(noise, 'x', 8192);
    ld_test_write(dir, "db", noise);
    ld_test_fails(ld_store_open(dir, NULL, &store, &err), &err, LD_E_CORRUPT);
    cr_assert_null(store);
}

LD_TEST(store, refuses_another_programs_database)
{
    autoclose int dir = ld_test_mkdir("root");
    struct ld_store *store = NULL;
    sqlite3 *db;

    cr_assert_eq(sqlite3_open("root/db", &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, "CREATE TABLE t(x)", NULL, NULL, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_close(db), SQLITE_OK);
    ld_test_fails(ld_store_open(dir, NULL, &store, &err), &err, LD_E_CORRUPT);
    cr_assert_not(has(dir, "db-wal"), "it was not touched");
}

LD_TEST(store, refuses_a_newer_schema_and_says_so)
{
    autoclose int dir = ld_test_mkdir("root");
    struct ld_store *store = ld_test_store(dir);
    sqlite3 *db;

    ld_store_close(store);
    store = NULL;
    cr_assert_eq(sqlite3_open("root/db", &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, "PRAGMA user_version = 99", NULL, NULL, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_close(db), SQLITE_OK);
    ld_test_fails(ld_store_open(dir, NULL, &store, &err), &err, LD_E_UNSUPPORTED);
    cr_assert_not_null(strstr(err.message, "99"));
    cr_assert_neq(err.hint[0], '\0');
}

/* Only an unclean end makes the next start look: then damage in any page is found. */
LD_TEST(store, finds_damage_after_an_unclean_end)
{
    autoclose int dir = ld_test_mkdir("root");
    struct ld_store *store = ld_test_store(dir);
    char junk[4096];
    struct stat st;
    sqlite3 *db;

    for (unsigned i = 0; i < 200; i++)
        ld_test_ok(ld_test_container(store, i, NULL, NULL, NULL, &err), &err);
    ld_store_close(store);
    store = NULL;
    cr_assert_eq(sqlite3_open("root/db", &db), SQLITE_OK);
    cr_assert_eq(
        sqlite3_exec(db, "UPDATE meta SET value = 0 WHERE key = 'clean'", NULL, NULL, NULL),
        SQLITE_OK);
    cr_assert_eq(sqlite3_close(db), SQLITE_OK);
    memset(junk, 0xa5, sizeof(junk));
    {
        autoclose int fd = openat(dir, "db", O_RDWR | O_CLOEXEC);

        cr_assert_eq(fstat(fd, &st), 0);
        cr_assert_eq(ld_pwrite_full(fd, junk, sizeof(junk), (uint64_t)st.st_size / 8192 * 4096), 0);
    }
    ld_test_fails(ld_store_open(dir, NULL, &store, &err), &err, LD_E_CORRUPT);
}

/* ---- the schema ---- */

static const char *const first[] = {"CREATE TABLE meta(key TEXT PRIMARY KEY, value ANY) STRICT;"
                                    "INSERT INTO meta VALUES('clean', 1);"};
static const char *const good[] = {"CREATE TABLE meta(key TEXT PRIMARY KEY, value ANY) STRICT;",
                                   "CREATE TABLE a(x);", "INSERT INTO a VALUES(7)"};
static const char *const bad[] = {"CREATE TABLE meta(key TEXT PRIMARY KEY, value ANY) STRICT;",
                                  "CREATE TABLE a(x);", "INSERT INTO nowhere VALUES(7)"};

static int upgrade(int dir, const char *const *steps, int n)
{
    LD_AUTO(ld_db_close_p) struct ld_db *db = NULL;
    struct ld_schema schema = {.steps = steps, .n_steps = n};

    if (ld_db_open("root/db", LD_DB_WRITER, &db, &err) < 0)
        return -1;
    return ld_schema_upgrade(db, dir, &schema, &err);
}

static int64_t ask(const char *path, const char *sql)
{
    LD_AUTO(ld_db_close_p) struct ld_db *db = NULL;
    int64_t value = -1;
    autosql stmt = NULL;

    ld_test_ok(ld_db_open(path, LD_DB_READER, &db, &err), &err);
    stmt = ld_sql(db, sql, &err);
    cr_assert_not_null(stmt, "%s", err.message);
    cr_assert_eq(ld_sql_int(stmt, &value, &err), 1, "%s", sql);
    return value;
}

LD_TEST(store, upgrades_step_by_step_with_a_backup_first)
{
    autoclose int dir = ld_test_mkdir("root");

    ld_test_write(dir, "db", "");
    ld_test_ok(upgrade(dir, first, 1), &err);
    cr_assert_not(has(dir, "db.v0.backup"), "there was nothing to back up");
    ld_test_write(dir, "db.v1.backup", "left over from an attempt that was cut off");
    ld_test_ok(upgrade(dir, good, 3), &err);
    cr_assert_eq(ask("root/db", "PRAGMA user_version"), 3);
    cr_assert_eq(ask("root/db", "SELECT x FROM a"), 7);
    cr_assert_eq(ask("root/db.v1.backup", "PRAGMA user_version"), 1);
    ld_test_ok(upgrade(dir, good, 3), &err); /* nothing to do */
}

LD_TEST(store, keeps_the_last_whole_version_when_a_step_fails)
{
    autoclose int dir = ld_test_mkdir("root");

    ld_test_write(dir, "db", "");
    ld_test_ok(upgrade(dir, first, 1), &err);
    ld_test_fails(upgrade(dir, bad, 3), &err, LD_E_INTERNAL);
    cr_assert_eq(ask("root/db", "PRAGMA user_version"), 2);
    ld_test_ok(upgrade(dir, good, 3), &err);
    cr_assert_eq(ask("root/db", "SELECT x FROM a"), 7);
}

static void run(const char *path, const char *sql)
{
    LD_AUTO(ld_db_close_p) struct ld_db *db = NULL;

    ld_test_ok(ld_db_open(path, LD_DB_WRITER, &db, &err), &err);
    ld_test_ok(ld_db_run(db, sql, &err), &err);
}

/* Version 1 had no `answer` beside an idempotency key. */
LD_TEST(store, opens_a_database_of_version_1_with_its_keys)
{
    autoclose int dir = ld_test_mkdir("root");
    struct ld_once once = {.key = "old", .uid = 5, .digest = "d"};
    struct ld_once_object made LD_AUTO(ld_once_object_done) = {.kind = NULL};
    struct ld_store *store = NULL;

    ld_test_write(dir, "db", "");
    ld_test_ok(upgrade(dir, ld_schema.steps, 1), &err);
    run("root/db", "INSERT INTO once(key, uid, digest, kind, object_id, created_ns)"
                   " VALUES('old', 5, 'd', 'volume', 'v', unixepoch() * 1000000000)");
    store = ld_test_store(dir);
    ld_test_ok(ld_store_once_find(store, &once, &made, &err), &err);
    cr_expect_str_eq(made.id, "v");
    cr_expect_null(made.answer);
    ld_store_close(store);
}

/* Version 3 had no snapshots: a container's changes were told against what it stood on. */
LD_TEST(store, opens_a_database_of_version_3_with_its_containers)
{
    autoclose int dir = ld_test_mkdir("root");
    struct ld_container c LD_AUTO(ld_container_done) = {.id = NULL};
    struct ld_layer layer LD_AUTO(ld_layer_done) = {.sid = 0};
    struct ld_store *store = NULL;
    uint64_t n = 1;
    char *parent = NULL;
    ld_sid uncounted = 1;

    ld_test_write(dir, "db", "");
    ld_test_ok(upgrade(dir, ld_schema.steps, 3), &err);
    run("root/db",
        "INSERT INTO layers(sid, diff_id, chain_id, origin, bytes, inodes, created_ns)"
        " VALUES(7, 'd', 'c', 0, 4096, 1, 1);"
        "INSERT INTO containers(id, parent_sid, upper_sid, driver, labels, read_only, auto_remove,"
        " created_ns) VALUES('old', 7, 8, 'overlay', '{}', 0, 0, 1),"
        " ('bare', NULL, 9, 'overlay', '{}', 0, 0, 1)");
    store = ld_test_store(dir);
    ld_test_ok(ld_store_container_get(store, "old", &c, &err), &err);
    cr_expect_eq(c.base_sid, 7);
    cr_expect_eq(c.parent_sid, 7);
    cr_expect_eq(c.limits.bytes, 0);
    cr_expect_eq(c.limits.inodes, 0);
    ld_container_done(&c);
    ld_test_ok(ld_store_container_get(store, "bare", &c, &err), &err);
    cr_expect_eq(c.base_sid, 0);
    ld_test_ok(ld_store_layer_get(store, 7, &layer, &err), &err);
    cr_expect_not(layer.is_uncounted);
    cr_expect_eq(layer.bytes, 4096);
    ld_test_ok(ld_store_layer_uncounted(store, 0, &uncounted, &err), &err);
    cr_expect_eq(uncounted, 0);
    ld_test_ok(ld_store_snapshot_summary(store, "old", &n, &parent, &err), &err);
    cr_expect_eq(n, 0);
    cr_expect_null(parent);
    ld_test_ok(ld_store_folds_recover(store, &err), &err);
    ld_store_close(store);
}

/* Version 5 had no snapshots of volumes. */
LD_TEST(store, opens_a_database_of_version_5_with_its_snapshots)
{
    autoclose int dir = ld_test_mkdir("root");
    struct ld_snapshot s LD_AUTO(ld_snapshot_done) = {.id = NULL};
    struct ld_store *store = NULL;
    enum ld_sid_owner owner = LD_SID_UNKNOWN;

    ld_test_write(dir, "db", "");
    ld_test_ok(upgrade(dir, ld_schema.steps, 5), &err);
    run("root/db", "INSERT INTO snapshots(id, owner_kind, owner_id, name, labels, created_ns)"
                   " VALUES('one', 'container', 'c', 'first', '{}', 1)");
    store = ld_test_store(dir);
    ld_test_ok(ld_store_snapshot_find(store, "c", "first", &s, &err), &err);
    cr_expect_eq(s.volume_sid, 0);
    ld_test_ok(ld_store_sid_owner(store, 7, &owner, &err), &err);
    cr_expect_eq(owner, LD_SID_UNKNOWN);
    ld_store_close(store);
}

/* Version 9 had no images in the trash. */
LD_TEST(store, opens_a_database_of_version_9_with_its_images_and_trash)
{
    autoclose int dir = ld_test_mkdir("root");
    struct ld_image image LD_AUTO(ld_image_done) = {.id = NULL};
    struct ld_trash trash LD_AUTO(ld_trash_done) = {.sid = 0};
    struct ld_trash_page page LD_AUTO(ld_trash_page_done) = {.n = 0};
    struct ld_restored restored LD_AUTO(ld_restored_done) = {.n_refs = 0};
    struct ld_store *store = NULL;

    ld_test_write(dir, "db", "");
    ld_test_ok(upgrade(dir, ld_schema.steps, 9), &err);
    run("root/db",
        "INSERT INTO images(id, config, size, created_ns) VALUES('sha256:one', x'7b7d', 2, 1);"
        "INSERT INTO refs VALUES('a:1', 'sha256:one');"
        "INSERT INTO volumes(id, sid, name, anonymous, seeded, labels, created_ns, removed_ns)"
        " VALUES('v', 7, 'data', 0, 0, '{}', 1, 2);"
        "INSERT INTO trash VALUES(7, 2, 'volume', 'v', 'data', 2, 9223372036854775807)");
    store = ld_test_store(dir);
    ld_test_ok(ld_store_image_by_ref(store, "a:1", &image, &err), &err);
    cr_expect_str_eq(image.id, "sha256:one");
    ld_test_ok(
        ld_store_trash_list(store, &(struct ld_trash_query){.only_uncounted = true}, &page, &err),
        &err);
    cr_assert_eq(page.n, 1);
    cr_expect_eq(page.item[0].n_refs, 0);
    ld_test_ok(ld_store_trash_find(store, "data", NULL, &trash, &err), &err);
    cr_expect_eq(trash.sid, 7);
    ld_test_ok(ld_store_trash_restore(store, &LD_WRITE_SELF, 7, NULL, &restored, &err), &err);
    cr_expect_eq(restored.n_refs, 0);
    ld_store_close(store);
}

/* ---- what is kept for a while ---- */

static size_t count_jobs(struct ld_store *store)
{
    struct ld_job_query query = {.state = -1};
    size_t n = 0;

    do {
        struct ld_job_page page LD_AUTO(ld_job_page_done) = {.n = 0};

        ld_test_ok(ld_store_job_list(store, &query, &page, &err), &err);
        n += page.n;
        query.after = page.next;
    } while (query.after);
    return n;
}

static bool are_trimmed(void *arg)
{
    return count_jobs(arg) <= 10000;
}

/* The newest 10,000 of at most 7 days; what runs stays in any case. The first write after the
 * opening has old ones removed. */
LD_TEST(store, forgets_old_jobs_and_keys)
{
    static const struct {
        const char *key;
        bool is_kept;
    } keys[] = {{"k1", false}, {"k7", false}, {"k7000", false}, {"k8", true}, {"k10008", true}};
    autoclose int dir = ld_test_mkdir("root");
    struct ld_note note = {.type = "system.test", .kind = "system"};
    struct ld_job_record job LD_AUTO(ld_job_record_done) = {.id = NULL};
    struct ld_store *store = ld_test_store(dir);

    ld_store_close(store);
    run("root/db",
        "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 10008)"
        " INSERT INTO jobs(id, kind, state, uid, created_ns)"
        " SELECT printf('%064d', i), 'test', iif(i = 2, 0, 1), 0,"
        " (unixepoch() - iif(i = 5000, 8 * 86400, 60)) * 1000000000 FROM n");
    run("root/db",
        "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 10008)"
        " INSERT INTO once SELECT 'k' || i, 5, 'd', 'volume', 'v',"
        " (unixepoch() - 7200) * 1000000000 + i, NULL FROM n");
    run("root/db", "UPDATE once SET created_ns = (unixepoch() - 90000) * 1000000000"
                   " WHERE key = 'k7000'");
    store = ld_test_store(dir);
    ld_test_ok(ld_store_event_add(store, &LD_WRITE_SELF, &note, &err), &err);
    cr_assert(ld_test_wait(are_trimmed, store, 20));
    /* 1 and 3 to 8 by number, 5000 by age; 2 runs. */
    cr_expect_eq(count_jobs(store), 10000);
    ld_test_fails(
        ld_store_job_get(store, "0000000000000000000000000000000000000000000000000000000000005000",
                         &job, &err),
        &err, LD_E_NOT_FOUND);
    ld_test_ok(ld_store_job_get(store,
                                "0000000000000000000000000000000000000000000000000000000000000002",
                                &job, &err),
               &err);
    ld_test_ok(ld_store_flush(store, &err), &err);
    for (size_t i = 0; i < LD_ARRAY_LEN(keys); i++) {
        struct ld_once once = {.key = keys[i].key, .uid = 5, .digest = "d"};
        struct ld_once_object made LD_AUTO(ld_once_object_done) = {.kind = NULL};
        int rc = ld_store_once_find(store, &once, &made, &err);

        cr_expect_eq(rc == 0, keys[i].is_kept, "%s", keys[i].key);
    }
    ld_store_close(store);
    cr_expect_eq(ask("root/db", "SELECT count(*) FROM once"), 10000);
}

/* The first version's own tables, as a release of it left them. */
LD_TEST(store, keeps_layers_when_blobs_come_to_them)
{
    autoclose int dir = ld_test_mkdir("root");
    struct ld_store *store = NULL;
    struct ld_layer layer = {.sid = 0};
    struct ld_kept_blob blob = {.digest = NULL};
    sqlite3 *db;

    ld_test_write(dir, "db", "");
    ld_test_ok(upgrade(dir, ld_schema.steps, 1), &err);
    cr_assert_eq(sqlite3_open("root/db", &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db,
                              "INSERT INTO layers VALUES(7, NULL, 'd', 'c', 0, NULL, 4096, 2, 1)",
                              NULL, NULL, NULL),
                 SQLITE_OK);
    cr_assert_eq(sqlite3_close(db), SQLITE_OK);
    ld_test_ok(ld_store_open(dir, NULL, &store, &err), &err);
    ld_test_ok(ld_store_layer_get(store, 7, &layer, &err), &err);
    cr_assert_str_eq(layer.chain_id, "c");
    ld_test_fails(ld_store_blob_get(store, 7, &blob, &err), &err, LD_E_NOT_FOUND);
    ld_layer_done(&layer);
    ld_store_close(store);
}

/* ---- sids ---- */

LD_TEST(store, never_gives_a_sid_twice)
{
    autoclose int dir = ld_test_mkdir("root");
    struct ld_store *store = ld_test_store(dir);
    ld_sid last = 0, sid;

    cr_assert_eq(ld_store_sid_ceiling(store), 1);
    for (int i = 0; i < 1000; i++) {
        ld_test_ok(ld_store_take_sid(store, &sid, &err), &err);
        cr_assert_gt(sid, last);
        last = sid;
    }
    cr_assert_eq(last, 1000, "no gaps without a reason: the numbers should stay short");
    ld_store_close(store);
    store = ld_test_store(dir);
    cr_assert_eq(ld_store_sid_ceiling(store), 1001, "a clean end wastes none");
    ld_test_ok(ld_store_take_sid(store, &sid, &err), &err);
    cr_assert_eq(sid, 1001);
    ld_store_close(store);
}

/* ---- group commit ---- */

struct crew {
    struct ld_store *store;
    int dir;
    unsigned number;
};

static void *create_fifty(void *arg)
{
    struct crew *crew = arg;
    struct ld_write w = {.uid = 1, .pid = 2, .dirs = &crew->dir, .n_dirs = 1};

    for (unsigned i = 0; i < 50; i++) {
        struct ld_err e = LD_ERR_INIT;
        struct ld_container c = {.driver = (char[]){"vfs"},
                                 .id = (char *)ld_test_id(crew->number * 1000 + i)};

        ld_test_ok(ld_store_take_sid(crew->store, &c.upper_sid, &e), &e);
        ld_test_ok(ld_store_container_add(crew->store, &w, &c, &e), &e);
    }
    return NULL;
}

LD_TEST(store, puts_concurrent_writes_into_common_commits)
{
    autoclose int dir = ld_test_fs("disk", "ext4", 64); /* a sync has to cost something */
    autoclose int w_dir = ld_test_mkdir("disk/w");
    struct ld_store *store = ld_test_store(dir);
    struct ld_store_stats before, after;
    struct ld_store_sums sums;
    struct crew crew[16];
    pthread_t threads[16];

    ld_store_get_stats(store, &before);
    for (unsigned i = 0; i < LD_ARRAY_LEN(crew); i++) {
        crew[i] = (struct crew){.store = store, .dir = w_dir, .number = i};
        cr_assert_eq(pthread_create(&threads[i], NULL, create_fifty, &crew[i]), 0);
    }
    for (unsigned i = 0; i < LD_ARRAY_LEN(crew); i++)
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
    ld_store_get_stats(store, &after);
    ld_test_ok(ld_store_sums(store, &sums, &err), &err);
    cr_assert_eq(sums.containers, 800);
    cr_assert_lt((after.commits - before.commits) * 3, 800, "%lu commits for 800 containers",
                 (unsigned long)(after.commits - before.commits));
    cr_assert_leq(after.dir_syncs - before.dir_syncs, after.commits - before.commits);
    ld_store_close(store);
}

LD_TEST(store, records_nothing_when_a_directory_cannot_be_synced)
{
    autoclose int dir = ld_test_mkdir("root");
    autoclose int path_only = open("root", O_PATH | O_CLOEXEC);
    struct ld_store *store = ld_test_store(dir);
    struct ld_write w = {.dirs = &path_only, .n_dirs = 1};
    struct ld_note note = {.type = "system.test", .kind = "system"};
    autofree char *events = NULL;

    ld_test_fails(ld_store_event_add(store, &w, &note, &err), &err, LD_E_IO);
    events = ld_test_events(store);
    cr_assert_str_eq(events, "");
    ld_store_close(store);
}

LD_TEST(store, undoes_a_dry_run)
{
    autoclose int dir = ld_test_mkdir("root");
    struct ld_store *store = ld_test_store(dir);
    struct ld_write w = {.uid = -1, .pid = -1, .dry_run = true};
    LD_AUTO(ld_removed_done) struct ld_removed removed = {0};
    autofree char *events = NULL;
    struct ld_volume v;

    ld_test_ok(ld_test_volume(store, 1, "data", &err), &err);
    ld_test_ok(
        ld_store_volume_remove(store, &w, ld_test_id(1), &(struct ld_remove){0}, &removed, &err),
        &err);
    cr_assert_eq(removed.n, 1, "it tells what it would remove");
    ld_test_ok(ld_store_volume_get(store, ld_test_id(1), &v, &err), &err);
    ld_volume_done(&v);
    events = ld_test_events(store);
    cr_assert_str_eq(events, "volume.create");
    ld_store_close(store);
}

static bool on_loop(void)
{
    return true;
}

LD_TEST(store, answers_lookups_on_the_loop)
{
    autoclose int dir = ld_test_mkdir("root");
    struct ld_store_options options = {.is_loop = on_loop};
    struct ld_store *store = NULL;
    struct ld_container c;
    ld_sid sid;

    ld_test_ok(ld_store_open(dir, &options, &store, &err), &err);
    ld_test_fails(ld_store_container_get(store, ld_test_id(1), &c, &err), &err, LD_E_NOT_FOUND);
    ld_test_ok(ld_store_take_sid(store, &sid, &err), &err);
    ld_store_close(store);
}

Test(store, asserts_that_nobody_writes_on_the_loop, .signal = SIGABRT)
{
    struct ld_store_options options = {.is_loop = on_loop};
    struct ld_store *store = NULL;
    int dir;

    ld_test_enter();
    dir = ld_test_mkdir("root");
    ld_test_ok(ld_store_open(dir, &options, &store, &err), &err);
    (void)ld_store_flush(store, &err);
}

/* ---- events ---- */

static void count_newest(void *arg, uint64_t newest)
{
    *(_Atomic uint64_t *)arg = newest;
}

LD_TEST(store, tells_of_events_and_lists_them_with_filters)
{
    autoclose int dir = ld_test_mkdir("root");
    struct ld_store *store = ld_test_store(dir);
    struct ld_write w = {.uid = 1000, .pid = 42, .request_id = "r-1"};
    struct ld_note mounted = {.type = "container.mount",
                              .kind = "container",
                              .id = "c1",
                              .name = "web",
                              .attributes = "{\"a\":1}"};
    struct ld_note made = {.type = "volume.create", .kind = "volume", .id = "v1"};
    struct ld_event_query query = {.type_glob = "container.*"};
    LD_AUTO(ld_event_page_done) struct ld_event_page page = {0};
    _Atomic uint64_t newest = 0;

    ld_store_on_events(store, count_newest, &newest);
    ld_store_event_post(store, &w, &mounted);
    ld_test_ok(ld_store_event_add(store, &w, &made, &err), &err);
    cr_assert_eq(newest, ld_store_event_newest(store));
    ld_test_ok(ld_store_event_list(store, &query, &page, &err), &err);
    cr_assert_eq(page.n, 1);
    cr_assert_str_eq(page.item[0].type, "container.mount");
    cr_assert_str_eq(page.item[0].object_name, "web");
    cr_assert_str_eq(page.item[0].attributes, "{\"a\":1}");
    cr_assert_str_eq(page.item[0].request_id, "r-1");
    cr_assert_eq(page.item[0].uid, 1000);
    cr_assert_eq(page.item[0].pid, 42);
    cr_assert_eq(page.next, newest, "filtered ones move it on");
    cr_assert_not(page.more);
    ld_event_page_done(&page);

    query = (struct ld_event_query){.object = "v1", .after = page.gap_to};
    ld_test_ok(ld_store_event_list(store, &query, &page, &err), &err);
    cr_assert_eq(page.n, 1);
    cr_assert_str_eq(page.item[0].type, "volume.create");
    ld_event_page_done(&page);

    query = (struct ld_event_query){.limit = 1};
    ld_test_ok(ld_store_event_list(store, &query, &page, &err), &err);
    cr_assert_eq(page.n, 1);
    cr_assert(page.more);
    ld_store_close(store);
}

LD_TEST(store, keeps_a_ring_of_events_and_tells_of_gaps)
{
    autoclose int dir = ld_test_mkdir("root");
    struct ld_store_options options = {.max_events = 100};
    struct ld_store *store = NULL;
    struct ld_note note = {.type = "system.test", .kind = "system"};
    LD_AUTO(ld_event_page_done) struct ld_event_page page = {0};

    ld_test_ok(ld_store_open(dir, &options, &store, &err), &err);
    for (int i = 0; i < 1500; i++)
        ld_store_event_post(store, &LD_WRITE_SELF, &note);
    ld_test_ok(ld_store_flush(store, &err), &err);
    ld_test_ok(ld_store_flush(store, &err), &err); /* the trimming was queued by the last batch */
    ld_test_ok(ld_store_event_list(store, &(struct ld_event_query){.after = 1}, &page, &err), &err);
    cr_assert_leq(page.n, 1000);
    cr_assert_eq(page.gap_from, 2);
    cr_assert_eq(page.item[0].id, page.gap_to + 1);
    ld_event_page_done(&page);
    ld_test_ok(ld_store_event_list(store, &(struct ld_event_query){.after = 1450}, &page, &err),
               &err);
    cr_assert_eq(page.gap_to, 0, "nothing is missing there");
    ld_store_close(store);
}

LD_TEST(store, never_gives_an_event_id_twice)
{
    autoclose int dir = ld_test_mkdir("root");
    struct ld_note note = {.type = "system.test", .kind = "system"};
    uint64_t last = 0;

    for (int i = 0; i < 3; i++) {
        struct ld_store *store = ld_test_store(dir);

        cr_assert_eq(ld_store_event_newest(store), last);
        ld_test_ok(ld_store_event_add(store, &LD_WRITE_SELF, &note, &err), &err);
        cr_assert_gt(ld_store_event_newest(store), last);
        last = ld_store_event_newest(store);
        ld_store_close(store);
    }
}

/* ---- jobs ---- */

LD_TEST(store, keeps_jobs_and_marks_what_was_cut_off)
{
    autoclose int dir = ld_test_mkdir("root");
    struct ld_store *store = ld_test_store(dir);
    struct ld_write w = {.uid = 7, .pid = 8, .request_id = "r"};
    struct ld_job_record one = {.id = (char *)ld_test_id(1), .kind = (char[]){"image.import"}};
    struct ld_job_record two = {.id = (char *)ld_test_id(2), .kind = (char[]){"check"}};
    LD_AUTO(ld_job_page_done) struct ld_job_page page = {0};
    struct ld_job_record got;

    ld_test_ok(ld_store_job_add(store, &w, &one, &err), &err);
    ld_test_ok(ld_store_job_add(store, &w, &two, &err), &err);
    one.state = LD_JOB_DONE;
    one.result = (char[]){"{\"x\":1}"};
    ld_test_ok(ld_store_job_finish(store, &w, &one, &err), &err);
    ld_test_fails(ld_store_job_finish(store, &w, &one, &err), &err, LD_E_CONFLICT);
    one.id = (char *)ld_test_id(3);
    ld_test_fails(ld_store_job_finish(store, &w, &one, &err), &err, LD_E_NOT_FOUND);
    ld_test_fails(ld_store_job_get(store, ld_test_id(3), &got, &err), &err, LD_E_NOT_FOUND);
    ld_test_ok(ld_store_jobs_interrupt(store, &err), &err);
    ld_test_ok(ld_store_job_list(store, &(struct ld_job_query){.state = -1}, &page, &err), &err);
    cr_assert_eq(page.n, 2);
    cr_assert_eq(page.item[0].state, LD_JOB_DONE);
    cr_assert_str_eq(page.item[0].result, "{\"x\":1}");
    cr_assert_eq(page.item[0].uid, 7);
    cr_assert_eq(page.item[1].state, LD_JOB_INTERRUPTED);
    cr_assert_neq(page.item[1].finished_ns, 0);
    ld_test_ok(ld_store_job_get(store, ld_test_id(1), &got, &err), &err);
    cr_assert_str_eq(got.kind, "image.import");
    ld_job_record_done(&got);
    ld_store_close(store);
}

/* ---- checkpoints ---- */

static bool wal_is_empty(void *arg)
{
    struct ld_store_stats stats;

    ld_store_get_stats(arg, &stats);
    return stats.wal_bytes == 0 && stats.checkpoints > 0;
}

LD_TEST(store, folds_the_wal_when_idle)
{
    autoclose int dir = ld_test_mkdir("root");
    struct ld_store *store = ld_test_store(dir);

    for (unsigned i = 0; i < 20; i++)
        ld_test_ok(ld_test_volume(store, i, NULL, &err), &err);
    cr_assert(ld_test_wait(wal_is_empty, store, 10));
    ld_store_close(store);
}

LD_TEST(store, keeps_the_wal_bounded_under_load)
{
    autoclose int dir = ld_test_mkdir("root");
    struct ld_store *store = ld_test_store(dir);
    autofree char *big = ld_alloc0(100001);
    struct ld_note note = {.type = "system.test", .kind = "system", .attributes = big};
    struct ld_store_stats stats;

    memset(big, 'x', 100000);
    for (unsigned i = 0; i < 400; i++)
        ld_test_ok(ld_store_event_add(store, &LD_WRITE_SELF, &note, &err), &err);
    ld_store_get_stats(store, &stats);
    cr_assert_lt(stats.wal_bytes, UINT64_C(20) << 20, "40 MB were written");
    ld_store_close(store);
}
