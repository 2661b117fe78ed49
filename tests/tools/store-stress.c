/* A stress and a measurement of daemon/store with its own main, since Criterion does not start
 * under TSan.
 *
 *     store-stress DIR [SECONDS]
 *
 * Eight writers make, change and remove containers and volumes; two readers look up and list; one
 * posts events. Prints rates, commits and the memory of the process; exits 0 when every call ended
 * as expected and the records are consistent afterwards, else aborts. DIR is an existing directory;
 * a `db` stays in it.
 */
#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/base/digest.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/store/store.h"

enum { WRITERS = 8, READERS = 2, IDLE_CONTAINERS = 1000 };

static struct {
    struct ld_store *store;
    int dir;
    _Atomic bool stop;
    _Atomic uint64_t writes, reads, rows, posted, newest;
} world;

static void must(int rc, const struct ld_err *err)
{
    if (rc == 0)
        return;
    (void)fprintf(stderr, "%s: %s\n", ld_code_name(err->code), err->message);
    abort();
}

static void make_container(struct ld_write *w, char id[65], const char *volume)
{
    struct ld_err err = LD_ERR_INIT;
    struct ld_mount_spec mount = {.target = (char[]){"/data"}, .volume_id = (char *)volume};
    struct ld_container c = {.id = id,
                             .driver = (char[]){"overlay"},
                             .labels = (char[]){"{\"app\":\"web\"}"},
                             .mounts = &mount,
                             .n_mounts = volume ? 1 : 0};

    ld_random_hex(id, 32);
    must(ld_store_take_sid(world.store, &c.upper_sid, &err), &err);
    must(ld_store_container_add(world.store, w, &c, &err), &err);
}

/* One life of a volume and a container on it, with the refusal in between. */
static void live_once(struct ld_write *w)
{
    LD_AUTO(ld_removed_done) struct ld_removed removed = {0};
    struct ld_container_patch patch = {.labels = "{\"app\":\"api\"}", .if_match = 1};
    struct ld_volume v = {.anonymous = true};
    struct ld_remove how = {.volumes = true};
    struct ld_err err = LD_ERR_INIT;
    char volume[65], container[65];
    autofree ld_sid *sids = NULL;

    ld_random_hex(volume, 32);
    v.id = volume;
    must(ld_store_take_sid(world.store, &v.sid, &err), &err);
    must(ld_store_volume_add(world.store, w, &v, &err), &err);
    make_container(w, container, volume);
    must(ld_store_container_patch(world.store, w, container, &patch, NULL, &err), &err);
    if (ld_store_volume_remove(world.store, w, volume, &how, &removed, &err) == 0 ||
        err.code != LD_E_IN_USE)
        abort();
    must(ld_store_container_remove(world.store, w, container, &how, &removed, &err), &err);
    assert(removed.n == 2);
    sids = ld_alloc0(removed.n * sizeof(*sids));
    for (size_t i = 0; i < removed.n; i++)
        sids[i] = removed.item[i].sid;
    {
        LD_AUTO(ld_removed_done) struct ld_removed more = {0};

        must(ld_store_trash_forget(world.store, &LD_WRITE_SELF, sids, removed.n, &more, &err),
             &err);
    }
    atomic_fetch_add(&world.writes, 6);
}

static void *write_on(void *arg)
{
    struct ld_write w = {.uid = 0, .pid = 1, .request_id = "r", .dirs = &world.dir, .n_dirs = 1};

    (void)arg;
    while (!atomic_load(&world.stop))
        live_once(&w);
    return NULL;
}

static void *read_on(void *arg)
{
    struct ld_label label = {"app", "web"};
    struct ld_err err = LD_ERR_INIT;
    struct ld_container c;

    (void)arg;
    while (!atomic_load(&world.stop)) {
        struct ld_container_query query = {.labels = &label, .n_labels = 1, .limit = 300};
        LD_AUTO(ld_container_page_done) struct ld_container_page page = {0};
        struct ld_store_sums sums;

        must(ld_store_container_list(world.store, &query, &page, &err), &err);
        for (size_t i = 0; i < page.n && i < 50; i++) {
            if (ld_store_container_get(world.store, page.item[i].id, &c, &err) == 0)
                ld_container_done(&c);
            else
                assert(err.code == LD_E_NOT_FOUND);
        }
        must(ld_store_sums(world.store, &sums, &err), &err);
        atomic_fetch_add(&world.rows, page.n);
        atomic_fetch_add(&world.reads, 52);
    }
    return NULL;
}

static void *post_on(void *arg)
{
    struct ld_note note = {.type = "container.mount", .kind = "container", .id = "x"};

    (void)arg;
    while (!atomic_load(&world.stop)) {
        for (int i = 0; i < 20; i++)
            ld_store_event_post(world.store, &LD_WRITE_SELF, &note);
        atomic_fetch_add(&world.posted, 20);
        (void)usleep(1000); /* a plausible rate */
    }
    return NULL;
}

static void tell_newest(void *arg, uint64_t newest)
{
    (void)arg;
    assert(newest > atomic_load(&world.newest));
    atomic_store(&world.newest, newest);
}

static uint64_t resident_kib(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    char line[128];
    const char *pages;

    if (!file || !fgets(line, sizeof(line), file))
        abort();
    (void)fclose(file);
    pages = strchr(line, ' ');
    if (!pages)
        abort();
    return strtoull(pages, NULL, 10) * 4;
}

static void run_threads(unsigned seconds)
{
    pthread_t threads[WRITERS + READERS + 1];

    for (size_t i = 0; i < LD_ARRAY_LEN(threads); i++) {
        void *(*main)(void *) = i < WRITERS ? write_on : i < WRITERS + READERS ? read_on : post_on;

        if (pthread_create(&threads[i], NULL, main, NULL) != 0)
            abort();
    }
    (void)sleep(seconds);
    atomic_store(&world.stop, true);
    for (size_t i = 0; i < LD_ARRAY_LEN(threads); i++)
        (void)pthread_join(threads[i], NULL);
}

static void report(unsigned seconds)
{
    struct ld_store_stats stats;

    ld_store_get_stats(world.store, &stats);
    (void)printf("writes/s %" PRIu64 "  events posted/s %" PRIu64 "  reads/s %" PRIu64
                 "  rows/s %" PRIu64 "\n",
                 world.writes / seconds, world.posted / seconds, world.reads / seconds,
                 world.rows / seconds);
    (void)printf("commits %" PRIu64 "  writes per commit %.1f  directory syncs %" PRIu64
                 "  checkpoints %" PRIu64 "  wal %" PRIu64 " KiB  db %" PRIu64 " KiB\n",
                 stats.commits, (double)stats.writes / (double)stats.commits, stats.dir_syncs,
                 stats.checkpoints, stats.wal_bytes >> 10, stats.db_bytes >> 10);
}

int main(int argc, char **argv)
{
    struct ld_write w = LD_WRITE_SELF;
    struct ld_err err = LD_ERR_INIT;
    struct ld_store_sums sums;
    int seconds = 3;
    char id[65];

    if (argc < 2 || (argc > 2 && ld_parse_int(argv[2], 1, 3600, &seconds) < 0)) {
        (void)fprintf(stderr, "usage: store-stress DIR [SECONDS]\n");
        return 2;
    }
    world.dir = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(ld_store_open(world.dir, NULL, &world.store, &err), &err);
    ld_store_on_events(world.store, tell_newest, NULL);
    for (int i = 0; i < IDLE_CONTAINERS; i++)
        make_container(&w, id, NULL);
    (void)printf("resident with %d containers: %" PRIu64 " KiB\n", IDLE_CONTAINERS, resident_kib());
    run_threads((unsigned)seconds);
    report((unsigned)seconds);
    must(ld_store_flush(world.store, &err), &err);
    must(ld_store_sums(world.store, &sums, &err), &err);
    if (sums.containers != IDLE_CONTAINERS || sums.volumes != 0 || sums.trash != 0)
        abort();
    (void)printf("resident afterwards: %" PRIu64 " KiB\n", resident_kib());
    ld_store_close(world.store);
    must(ld_store_open(world.dir, NULL, &world.store, &err), &err);
    must(ld_store_sums(world.store, &sums, &err), &err);
    if (sums.containers != IDLE_CONTAINERS)
        abort();
    ld_store_close(world.store);
    ld_close(world.dir);
    return 0;
}
