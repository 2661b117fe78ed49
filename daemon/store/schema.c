/* The schema, as steps from one version to the next, and their execution at start.
 *
 * A released step is never changed: later versions append. Each step runs in one transaction that
 * also sets user_version, so a crash leaves a whole version. Store's opener only, before any thread
 * starts.
 *
 * Conventions: *_ns are nanoseconds since 1970; NULL is "none" everywhere; enums are stored as the
 * numbers of records.h, which therefore are append-only; `seq` gives lists their order and their
 * cursor. Labels are checked, since one malformed text would break every list that filters by them.
 */
#include "daemon/store/schema.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "daemon/base/fdio.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"

enum { APPLICATION_ID = 0x6c617964 }; /* "layd" */

static const char step_1[] =
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;"

    "CREATE TABLE layers("
    "  sid INTEGER PRIMARY KEY,"
    "  parent_sid INTEGER REFERENCES layers(sid),"
    "  diff_id TEXT,"
    "  chain_id TEXT UNIQUE,"
    "  origin INTEGER NOT NULL,"
    "  damage TEXT,"
    "  bytes INTEGER NOT NULL,"
    "  inodes INTEGER NOT NULL,"
    "  created_ns INTEGER NOT NULL) STRICT;"
    "CREATE INDEX layers_by_parent ON layers(parent_sid) WHERE parent_sid IS NOT NULL;"

    "CREATE TABLE images("
    "  seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  id TEXT NOT NULL UNIQUE,"
    "  tip_sid INTEGER REFERENCES layers(sid),"
    "  config BLOB NOT NULL,"
    "  manifest BLOB,"
    "  media_type TEXT,"
    "  size INTEGER NOT NULL,"
    "  created_ns INTEGER NOT NULL,"
    "  version INTEGER NOT NULL DEFAULT 1) STRICT;"
    "CREATE INDEX images_by_tip ON images(tip_sid) WHERE tip_sid IS NOT NULL;"

    "CREATE TABLE refs("
    "  name TEXT PRIMARY KEY,"
    "  image_id TEXT NOT NULL REFERENCES images(id)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX refs_by_image ON refs(image_id);"

    /* image_id has no foreign key: an image can be removed by force while its layers stay. */
    "CREATE TABLE containers("
    "  seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  id TEXT NOT NULL UNIQUE,"
    "  name TEXT,"
    "  image_id TEXT,"
    "  image_ref TEXT,"
    "  parent_sid INTEGER REFERENCES layers(sid),"
    "  upper_sid INTEGER NOT NULL UNIQUE,"
    "  driver TEXT NOT NULL,"
    "  driver_state TEXT,"
    "  labels TEXT NOT NULL,"
    "  config TEXT,"
    "  spec_digest TEXT,"
    "  boot_id TEXT,"
    "  read_only INTEGER NOT NULL,"
    "  auto_remove INTEGER NOT NULL,"
    "  ever_mounted INTEGER NOT NULL DEFAULT 0,"
    "  damage TEXT,"
    "  created_ns INTEGER NOT NULL,"
    "  version INTEGER NOT NULL DEFAULT 1,"
    "  removed_ns INTEGER) STRICT;"
    "CREATE UNIQUE INDEX containers_by_name ON containers(name)"
    "  WHERE removed_ns IS NULL AND name IS NOT NULL;"
    "CREATE INDEX containers_by_image ON containers(image_id) WHERE image_id IS NOT NULL;"
    "CREATE INDEX containers_by_parent ON containers(parent_sid) WHERE parent_sid IS NOT NULL;"
    "CREATE INDEX containers_by_boot ON containers(boot_id) WHERE boot_id IS NOT NULL;"

    /* volume_id has no foreign key: a restorable container does not hold its volumes. */
    "CREATE TABLE container_mounts("
    "  container INTEGER NOT NULL REFERENCES containers(seq) ON DELETE CASCADE,"
    "  n INTEGER NOT NULL,"
    "  type INTEGER NOT NULL,"
    "  source TEXT,"
    "  target TEXT NOT NULL,"
    "  subpath TEXT,"
    "  volume_id TEXT,"
    "  read_only INTEGER NOT NULL,"
    "  size INTEGER NOT NULL,"
    "  PRIMARY KEY(container, n)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX container_mounts_by_volume ON container_mounts(volume_id)"
    "  WHERE volume_id IS NOT NULL;"

    "CREATE TABLE volumes("
    "  seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  id TEXT NOT NULL UNIQUE,"
    "  sid INTEGER NOT NULL UNIQUE,"
    "  name TEXT,"
    "  anonymous INTEGER NOT NULL,"
    "  seeded INTEGER NOT NULL,"
    "  labels TEXT NOT NULL,"
    "  spec_digest TEXT,"
    "  damage TEXT,"
    "  created_ns INTEGER NOT NULL,"
    "  version INTEGER NOT NULL DEFAULT 1,"
    "  removed_ns INTEGER) STRICT;"
    "CREATE UNIQUE INDEX volumes_by_name ON volumes(name)"
    "  WHERE removed_ns IS NULL AND name IS NOT NULL;"

    "CREATE TABLE snapshots("
    "  seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  id TEXT NOT NULL UNIQUE,"
    "  owner_kind TEXT NOT NULL,"
    "  owner_id TEXT NOT NULL,"
    "  name TEXT,"
    "  labels TEXT NOT NULL,"
    "  tip_sid INTEGER REFERENCES layers(sid),"
    "  created_ns INTEGER NOT NULL,"
    "  version INTEGER NOT NULL DEFAULT 1,"
    "  UNIQUE(owner_id, name)) STRICT;"
    "CREATE INDEX snapshots_by_tip ON snapshots(tip_sid) WHERE tip_sid IS NOT NULL;"

    "CREATE TABLE trash("
    "  sid INTEGER PRIMARY KEY,"
    "  place INTEGER NOT NULL,"
    "  kind TEXT NOT NULL,"
    "  owner_id TEXT,"
    "  owner_name TEXT,"
    "  removed_ns INTEGER NOT NULL,"
    "  purge_ns INTEGER NOT NULL) STRICT;"

    "CREATE TABLE events("
    "  id INTEGER PRIMARY KEY,"
    "  time_ns INTEGER NOT NULL,"
    "  type TEXT NOT NULL,"
    "  kind TEXT NOT NULL,"
    "  object_id TEXT,"
    "  object_name TEXT,"
    "  uid INTEGER NOT NULL,"
    "  pid INTEGER NOT NULL,"
    "  request_id TEXT,"
    "  attributes TEXT) STRICT;"

    "CREATE TABLE jobs("
    "  seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  id TEXT NOT NULL UNIQUE,"
    "  kind TEXT NOT NULL,"
    "  state INTEGER NOT NULL,"
    "  object_kind TEXT,"
    "  object_id TEXT,"
    "  uid INTEGER NOT NULL,"
    "  request_id TEXT,"
    "  result TEXT,"
    "  error TEXT,"
    "  created_ns INTEGER NOT NULL,"
    "  finished_ns INTEGER) STRICT;"
    "CREATE INDEX jobs_running ON jobs(state) WHERE state = 0;"

    "CREATE TABLE once("
    "  key TEXT NOT NULL,"
    "  uid INTEGER NOT NULL,"
    "  digest TEXT NOT NULL,"
    "  kind TEXT NOT NULL,"
    "  object_id TEXT NOT NULL,"
    "  created_ns INTEGER NOT NULL,"
    "  PRIMARY KEY(key, uid)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX once_by_time ON once(created_ns);";

/* What the first answer said that the object itself does not: for work whose answer is more than
 * one object. */
static const char step_2[] = "ALTER TABLE once ADD COLUMN answer TEXT;";

/* Blobs as they came, kept beside their layers. */
static const char step_3[] = "CREATE TABLE layer_blobs("
                             "  sid INTEGER PRIMARY KEY REFERENCES layers(sid) ON DELETE CASCADE,"
                             "  digest TEXT NOT NULL,"
                             "  media_type TEXT NOT NULL,"
                             "  size INTEGER NOT NULL) STRICT;";

/* Snapshots: what `changes` compares with stays the image's tip however often a container is
 * frozen; a frozen layer is counted later than it is made (bytes and inodes are 0 until then). */
static const char step_4[] =
    "ALTER TABLE containers ADD COLUMN base_sid INTEGER REFERENCES layers(sid);"
    "UPDATE containers SET base_sid = parent_sid;"
    "ALTER TABLE layers ADD COLUMN uncounted INTEGER NOT NULL DEFAULT 0;"
    "CREATE INDEX layers_uncounted ON layers(sid) WHERE uncounted;"
    "ALTER TABLE snapshots ADD COLUMN fuzzy INTEGER NOT NULL DEFAULT 0;"
    "CREATE INDEX snapshots_by_owner ON snapshots(owner_id, seq);";

/* Folding: a layer that others were folded into, and who may still have those others mounted.
 * `ripe`: nobody any more is about to mount them. */
static const char step_5[] =
    "CREATE TABLE held("
    "  layer_sid INTEGER NOT NULL REFERENCES layers(sid),"
    "  upper_sid INTEGER NOT NULL,"
    "  ripe INTEGER NOT NULL DEFAULT 0,"
    "  PRIMARY KEY(layer_sid, upper_sid)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX held_by_upper ON held(upper_sid);"
    "CREATE INDEX containers_by_base ON containers(base_sid) WHERE base_sid IS NOT NULL;";

/* Snapshots of volumes: each a directory of its own, beside those of the volumes. */
static const char step_6[] = "ALTER TABLE snapshots ADD COLUMN volume_sid INTEGER;"
                             "CREATE UNIQUE INDEX snapshots_by_volume_sid ON snapshots(volume_sid)"
                             "  WHERE volume_sid IS NOT NULL;";

/* What the file system holds a writable layer or a volume to; 0: nothing. */
static const char step_7[] =
    "ALTER TABLE containers ADD COLUMN size_limit INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE containers ADD COLUMN inode_limit INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE volumes ADD COLUMN size_limit INTEGER NOT NULL DEFAULT 0;";

/* Those that have limits are looked at again and again: they are found without the others. */
static const char step_8[] =
    "CREATE INDEX containers_limited ON containers(seq)"
    "  WHERE removed_ns IS NULL AND (size_limit > 0 OR inode_limit > 0);"
    "CREATE INDEX volumes_limited ON volumes(seq) WHERE removed_ns IS NULL AND size_limit > 0;";

/* The kind of file system of its own that holds a container's writable layer; 0: none. */
static const char step_9[] =
    "ALTER TABLE containers ADD COLUMN backing INTEGER NOT NULL DEFAULT 0;";

/* Removed images that can be restored, with the names they had; what is in the trash is found by id
 * and name, and by when its time is over. trash.bytes: what it takes, NULL until it is counted. */
static const char step_10[] =
    "ALTER TABLE images ADD COLUMN removed_ns INTEGER;"
    "CREATE TABLE removed_refs("
    "  name TEXT NOT NULL,"
    "  image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,"
    "  PRIMARY KEY(name, image_id)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX removed_refs_by_image ON removed_refs(image_id);"
    "ALTER TABLE trash ADD COLUMN bytes INTEGER;"
    "CREATE INDEX trash_by_owner ON trash(owner_id);"
    "CREATE INDEX trash_by_name ON trash(owner_name) WHERE owner_name IS NOT NULL;"
    "CREATE INDEX trash_kept ON trash(purge_ns) WHERE purge_ns > removed_ns;";

static const char *const steps[] = {step_1, step_2, step_3, step_4, step_5,
                                    step_6, step_7, step_8, step_9, step_10};
const struct ld_schema ld_schema = {.steps = steps, .n_steps = LD_ARRAY_LEN(steps)};

static int read_pragma(struct ld_db *db, const char *text, int64_t *ret, struct ld_err *err)
{
    autosql stmt = ld_sql(db, text, err);

    return stmt && ld_sql_int(stmt, ret, err) >= 0 ? 0 : -1;
}

/* An empty file is 0 everywhere. What another program made is not touched. */
static int check_identity(struct ld_db *db, const struct ld_schema *schema, int64_t *ret_version,
                          struct ld_err *err)
{
    int64_t application = 0, version = 0, tables = 0;

    if (read_pragma(db, "PRAGMA application_id", &application, err) < 0 ||
        read_pragma(db, "PRAGMA user_version", &version, err) < 0 ||
        read_pragma(db, "SELECT count(*) FROM sqlite_schema", &tables, err) < 0)
        return -1;
    if (application != (version ? APPLICATION_ID : 0) || (version == 0 && tables != 0) ||
        version < 0)
        return ld_err_set(err, LD_E_CORRUPT,
                          "database: the file 'db' is no database of layerd (application %#llx, "
                          "version %lld)",
                          (unsigned long long)application, (long long)version);
    if (version > schema->n_steps) {
        (void)ld_err_set(err, LD_E_UNSUPPORTED,
                         "database: it has schema version %lld, this layerd knows up to %d",
                         (long long)version, schema->n_steps);
        return ld_err_hint(err,
                           "a newer layerd has used this data root: install that version again, "
                           "or restore the backup it made (db.v%d.backup)",
                           schema->n_steps);
    }
    *ret_version = version;
    return 0;
}

/* After anything but a clean end the structure is verified before it is trusted. */
static int check_structure(struct ld_db *db, struct ld_err *err)
{
    int64_t is_clean = 0;
    autosql clean = NULL;
    autosql check = NULL;
    int rc;

    clean = ld_sql(db, "SELECT value FROM meta WHERE key = 'clean'", err);
    if (!clean || ld_sql_int(clean, &is_clean, err) < 0)
        return -1;
    if (is_clean)
        return 0;
    check = ld_sql(db, "PRAGMA quick_check(1)", err);
    if (!check)
        return -1;
    rc = ld_sql_next(check, err);
    if (rc < 0)
        return -1;
    if (rc == 0 || strcmp(ld_col_peek(check, 0), "ok") != 0) {
        (void)ld_err_set(err, LD_E_CORRUPT, "database: damaged: %s", ld_col_peek(check, 0));
        return ld_err_hint(err, "stop layerd and restore 'db' from a backup; `sqlite3 db .recover` "
                                "may save what is readable");
    }
    return 0;
}

/* Readers never wait for the writer, and one sync commits. */
static int enter_wal(struct ld_db *db, struct ld_err *err)
{
    autosql stmt = ld_sql(db, "PRAGMA journal_mode = WAL", err);

    if (!stmt || ld_sql_next(stmt, err) < 0)
        return -1;
    if (strcmp(ld_col_peek(stmt, 0), "wal") != 0)
        return ld_err_set(err, LD_E_UNSUPPORTED,
                          "database: the data root's file system has no shared memory for WAL");
    return 0;
}

/* A copy of the old version, whole and durable before anything is changed. */
static int back_up(struct ld_db *db, int root_fd, int64_t version, struct ld_err *err)
{
    autofree char *name = ld_asprintf("db.v%lld.backup", (long long)version);
    autofree char *path = ld_asprintf("%s/%s", ld_fd_path(root_fd).path, name);
    autoclose int fd = -EBADF;
    autosql stmt = NULL;
    int rc;

    if (unlinkat(root_fd, name, 0) < 0 && errno != ENOENT) /* of an attempt that was cut off */
        return ld_err_sys(err, -errno, "remove the old backup '%s'", name);
    stmt = ld_sql(db, "VACUUM INTO ?1", err);
    if (!stmt)
        return -1;
    ld_bind(stmt, 1, path);
    if (ld_sql_done(stmt, err) < 0)
        return ld_err_prefix(err, "back the database up as '%s'", name);
    fd = openat(root_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    rc = fd < 0 ? -errno : ld_fsync(fd);
    if (rc == 0)
        rc = ld_fsync(root_fd);
    return rc < 0 ? ld_err_sys(err, rc, "sync the backup '%s'", name) : 0;
}

static int run_step(struct ld_db *db, const char *step, int to, struct ld_err *err)
{
    autofree char *mark =
        ld_asprintf("PRAGMA application_id = %d; PRAGMA user_version = %d;", APPLICATION_ID, to);

    if (ld_db_run(db, "PRAGMA synchronous = FULL", err) < 0 ||
        ld_db_run(db, "BEGIN IMMEDIATE", err) < 0)
        return -1;
    if (ld_db_run(db, step, err) == 0 && ld_db_run(db, mark, err) == 0 &&
        ld_db_run(db, "COMMIT", err) == 0)
        return 0;
    ld_db_undo(db);
    return ld_err_prefix(err, "bring the database to schema version %d", to);
}

int ld_schema_upgrade(struct ld_db *db, int root_fd, const struct ld_schema *schema,
                      struct ld_err *err)
{
    int64_t version = 0;

    if (check_identity(db, schema, &version, err) < 0 || enter_wal(db, err) < 0)
        return -1;
    if (version > 0 && check_structure(db, err) < 0)
        return -1;
    if (version > 0 && version < schema->n_steps) {
        if (back_up(db, root_fd, version, err) < 0)
            return -1;
        ld_info("database: schema version %d becomes %d", (int)version, schema->n_steps);
    }
    for (int i = (int)version; i < schema->n_steps; i++) {
        if (run_step(db, schema->steps[i], i + 1, err) < 0)
            return -1;
    }
    return 0;
}
