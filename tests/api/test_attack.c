/* Several clients do everything there is to do when the daemon is killed, or the power goes. What
 * was acknowledged is there with its content, nothing half made shows, nothing is left over, and
 * one more start changes nothing.
 *
 * Each actor leads objects through a life: an image, a container of it, a volume, from their making
 * to their removal. A life is known by how many of its steps were begun and how many acknowledged;
 * what must be there, must not, or may, follows from the two.
 *
 * LD_ATTACK_ROUNDS in the environment makes it longer than the suite's few rounds. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include <cjson/cJSON.h>

#include "daemon/base/buf.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "tests/lib/api.h"

/* XFS_IOC_GOINGDOWN, ext4's too: 2 flushes nothing, like a power cut. */
#define SHUTDOWN_IOCTL   _IOR('X', 125, uint32_t)
#define SHUTDOWN_NOFLUSH 2

enum { ACTORS = 4, MAX_LIVES = 1000, BIG = 60000 };

enum step {
    IMPORT,
    CREATE,
    MOUNT,
    WRITE,
    FILL,
    READ,
    DIFF,
    TAG,
    UNMOUNT,
    DELETE,
    REMOVE,
    DROP,
    UNTAG,
    REMOVE_IMAGE,
    STEPS
};

enum body { NO_BODY, ARCHIVE, NAME, TAR };

/* "@" is the life's name. */
static const struct {
    const char *method, *target, *json, *type;
    enum body body;
    int status;
} steps[STEPS] = {
    [IMPORT] = {"POST", "/v1/images/import?ref=@", NULL, NULL, ARCHIVE, 200},
    [CREATE] = {"PUT", "/v1/containers/@",
                "{'image':'@','mounts':[{'type':'volume','source':'@','target':'/data'}]}", NULL,
                NO_BODY, 201},
    [MOUNT] = {"POST", "/v1/containers/@/mount", NULL, NULL, NO_BODY, 200},
    [WRITE] = {"PUT", "/v1/containers/@/files?path=/etc/note", NULL, "application/octet-stream",
               NAME, 200},
    [FILL] = {"PUT", "/v1/containers/@/files?path=/data", NULL, "application/x-tar", TAR, 200},
    [READ] = {"GET", "/v1/containers/@/export", NULL, NULL, NO_BODY, 200},
    [DIFF] = {"GET", "/v1/containers/@/diff", NULL, NULL, NO_BODY, 200},
    [TAG] = {"POST", "/v1/images/@/tag", "{'ref':'t-@'}", NULL, NO_BODY, 200},
    [UNMOUNT] = {"POST", "/v1/containers/@/unmount", NULL, NULL, NO_BODY, 200},
    [DELETE] = {"DELETE", "/v1/containers/@/files?path=/etc/motd", NULL, NULL, NO_BODY, 204},
    [REMOVE] = {"DELETE", "/v1/containers/@", NULL, NULL, NO_BODY, 204},
    [DROP] = {"DELETE", "/v1/volumes/@?purge=1", NULL, NULL, NO_BODY, 204},
    [UNTAG] = {"DELETE", "/v1/images/t-@", NULL, NULL, NO_BODY, 200},
    [REMOVE_IMAGE] = {"DELETE", "/v1/images/@", NULL, NULL, NO_BODY, 204},
};

struct life {
    int begun, acked; /* steps */
};

/* What an actor's replies mean: KILLED: those that come count. CUT: those that come now say
 * nothing, a sync that the cut overtakes may have claimed to be one. */
enum phase { RUNNING, KILLED, CUT };

struct attack;

struct actor {
    pthread_t thread;
    struct ld_client *client;
    int number;
    unsigned seed;
    struct attack *attack;
    int n;
    struct life life[MAX_LIVES];
    char problem[800];
};

struct attack {
    struct ld_daemon *d;
    struct actor *actor[ACTORS];
    _Atomic enum phase phase;
    _Atomic int acked;
    _Atomic bool has_problem;
    int want_acked;
};

static struct ld_text name_of(int actor, int life)
{
    return ld_textf("a-%d-%d", actor, life);
}

/* ---- what a life is made of ---- */

static char *with_name(const char *text, const char *name)
{
    struct ld_buf buf = LD_BUF_INIT(4096);

    for (; *text; text++) {
        if (*text == '@')
            ld_buf_adds(&buf, name);
        else
            ld_buf_addc(&buf, *text);
    }
    return ld_buf_take(&buf);
}

/* Large enough to be lost in part; different for each name. */
static void make_big(const char *name, char big[BIG])
{
    unsigned seed = 1;

    for (const char *p = name; *p; p++)
        seed = seed * 31 + (unsigned char)*p;
    for (int i = 0; i < BIG; i++)
        big[i] = (char)rand_r(&seed);
}

/* A layer that all images have in common, and one of its own. */
static struct ld_blob make_archive(const char *name)
{
    autofree char *big = ld_alloc0(BIG);
    const struct ld_entry common[] = {
        {.path = "etc", .type = LD_ENTRY_DIR},
        {.path = "etc/motd", .data = "common\n"},
        {.path = "usr/lib/deep/file", .data = "deep\n"},
    };
    const struct ld_entry own[] = {{.path = "etc", .type = LD_ENTRY_DIR},
                                   {.path = "etc/motd", .data = name},
                                   {.path = "data", .type = LD_ENTRY_DIR},
                                   {.path = "data/seed", .data = name},
                                   {.path = "big", .data = big, .len = BIG}};
    struct ld_blob layers[] = {ld_make_tar(common, LD_ARRAY_LEN(common)), {.data = NULL}};
    struct ld_image_spec spec = {.filter = "gzip", .layers = layers, .n_layers = 2};
    struct ld_blob archive;

    make_big(name, big);
    layers[1] = ld_make_tar(own, LD_ARRAY_LEN(own));
    archive = ld_make_image(&spec, 1);
    ld_blob_done(&layers[0]);
    ld_blob_done(&layers[1]);
    return archive;
}

static struct ld_blob make_body(enum body body, const char *name)
{
    const struct ld_entry kept[] = {{.path = "sub", .type = LD_ENTRY_DIR},
                                    {.path = "sub/kept", .data = name}};

    switch (body) {
    case ARCHIVE:
        return make_archive(name);
    case TAR:
        return ld_make_tar(kept, LD_ARRAY_LEN(kept));
    case NAME:
        return (struct ld_blob){.data = ld_strdup(name), .len = strlen(name)};
    case NO_BODY:
        break;
    }
    return (struct ld_blob){.data = NULL};
}

/* ---- the actors ---- */

static bool do_step(struct actor *a, const char *name, enum step step)
{
    autofree char *target = with_name(steps[step].target, name);
    autofree char *json = steps[step].json ? with_name(steps[step].json, name) : NULL;
    struct ld_blob body = make_body(steps[step].body, name);
    const struct ld_reply *reply =
        ld_client_call(a->client, &(struct ld_call){.method = steps[step].method,
                                                    .target = target,
                                                    .json = json,
                                                    .content_type = steps[step].type,
                                                    .body = body.data,
                                                    .body_len = body.len});
    bool ok = reply && reply->status == steps[step].status;

    if (!ok && a->attack->phase == RUNNING) {
        (void)snprintf(a->problem, sizeof(a->problem), "%s %s: %d %.300s %.300s",
                       steps[step].method, target, reply ? reply->status : 0,
                       reply ? reply->body : "", ld_client_problem(a->client));
        a->attack->has_problem = true;
    }
    ld_blob_done(&body);
    return ok;
}

/* False when it is over. */
static bool lead_life(struct actor *a, int n)
{
    struct ld_text name = name_of(a->number, n);
    struct life *life = &a->life[n];
    int until = rand_r(&a->seed) % 3 == 0 ? STEPS : 1 + rand_r(&a->seed) % STEPS;

    while (life->begun < until) {
        enum step step = (enum step)life->begun;

        if (a->attack->phase != RUNNING)
            return false;
        life->begun++;
        if (!do_step(a, name.s, step) || a->attack->phase == CUT)
            return false;
        life->acked++;
        a->attack->acked++;
    }
    return true;
}

static void *act(void *arg)
{
    struct actor *a = arg;

    while (a->n < MAX_LIVES && lead_life(a, a->n++))
        ;
    return NULL;
}

static void start_actors(struct attack *k, unsigned seed)
{
    k->phase = RUNNING;
    k->acked = 0;
    for (int i = 0; i < ACTORS; i++) {
        struct actor *a = ld_new(struct actor);

        a->client = ld_client_new(k->d->socket);
        a->number = i;
        a->seed = seed + (unsigned)i;
        a->attack = k;
        k->actor[i] = a;
        cr_assert_eq(pthread_create(&a->thread, NULL, act, a), 0);
    }
}

static void join_actors(struct attack *k)
{
    for (int i = 0; i < ACTORS; i++) {
        cr_assert_eq(pthread_join(k->actor[i]->thread, NULL), 0);
        cr_expect_str_eq(k->actor[i]->problem, "");
        ld_client_free(k->actor[i]->client);
    }
}

static void free_actors(struct attack *k)
{
    for (int i = 0; i < ACTORS; i++)
        free(k->actor[i]);
}

static bool have_acked(void *arg)
{
    struct attack *k = arg;

    return k->acked >= k->want_acked || k->has_problem;
}

/* Until about so many steps are done, so that a slow machine has them too; then a moment more. */
static void let_act(struct attack *k, unsigned seed)
{
    struct timespec moment = {.tv_nsec = rand_r(&seed) % 20000 * 1000L};

    k->want_acked = 10 + rand_r(&seed) % 100;
    cr_assert(ld_test_wait(have_acked, k, 60), "only %d steps of %d", k->acked, k->want_acked);
    (void)nanosleep(&moment, NULL); /* where the blow falls is the test's input */
}

/* ---- the reckoning ---- */

enum verdict { MUST_NOT, MAY, MUST };

/* Of what one step makes and a later one takes away. */
static enum verdict judge(const struct life *life, int made_by, int taken_by)
{
    if (life->begun <= made_by || life->acked > taken_by)
        return MUST_NOT;
    return life->acked > made_by && life->begun <= taken_by ? MUST : MAY;
}

static bool is_there(struct ld_client *c, enum verdict verdict, const char *what, const char *name)
{
    autofree char *target = with_name(what, name);
    const struct ld_reply *reply = ld_call(c, &(struct ld_call){.method = "GET", .target = target});

    cr_assert(reply->status == 200 || reply->status == 404, "%s: %d %s", target, reply->status,
              reply->body);
    cr_expect(verdict != MUST || reply->status == 200, "%s is lost", target);
    cr_expect(verdict != MUST_NOT || reply->status == 404, "%s is there", target);
    return reply->status == 200;
}

static void check_file(struct ld_client *c, enum verdict verdict, const char *container,
                       const char *path, const char *content, size_t len)
{
    autofree char *target = ld_asprintf("/v1/containers/%s/files?path=%s", container, path);
    const struct ld_reply *reply = ld_call(
        c,
        &(struct ld_call){.method = "GET",
                          .target = target,
                          .headers = (const char *[]){"Accept: application/octet-stream", NULL}});

    if (reply->status == 200)
        cr_expect(verdict != MUST_NOT && reply->len == len &&
                      memcmp(reply->body, content, len) == 0,
                  "%s: %zu bytes, not the %zu written", target, reply->len, len);
    else
        cr_expect(verdict != MUST && reply->status == 404, "%s: %d %s", target, reply->status,
                  reply->body);
}

static void check_container(struct ld_client *c, const struct life *life, const char *name,
                            bool was_cut)
{
    enum verdict mounted = was_cut ? MUST_NOT : judge(life, MOUNT, UNMOUNT);
    cJSON *json = ld_want(c, 200, "GET", NULL, "/v1/containers/%s", name);
    struct ld_text state = ld_textf("%s", ld_str(json, "state"));

    if (strcmp(state.s, "mounted") == 0) {
        struct ld_text at = ld_textf("%s", ld_str(json, "mountpoint"));

        cr_expect_neq(mounted, MUST_NOT, "%s is mounted", name);
        /* An unmount takes the volumes first; what a kill cut off is taken back by the start. */
        cr_expect_eq(ld_test_count_mounts(at.s), 2, "%s lacks its volume", name);
    } else {
        cr_expect_str_eq(state.s, "created");
        cr_expect_neq(mounted, MUST, "%s is not mounted", name);
    }
    check_file(c, judge(life, -1, DELETE), name, "/etc/motd", name, strlen(name));
    check_file(c, judge(life, WRITE, STEPS), name, "/etc/note", name, strlen(name));
    check_file(c, judge(life, FILL, STEPS), name, "/data/sub/kept", name, strlen(name));
    check_file(c, judge(life, MOUNT, STEPS) == MUST ? MUST : MAY, name, "/data/seed", name,
               strlen(name));
}

/* Its content by a new container: the old one may have changed it. */
static void check_image(struct ld_client *c, const char *name)
{
    autofree char *big = ld_alloc0(BIG);

    cr_expect_str_eq(ld_str(ld_want(c, 200, "GET", NULL, "/v1/images/%s", name), "state"), "ok");
    (void)ld_create(c, "probe", name, NULL);
    make_big(name, big);
    check_file(c, MUST, "probe", "/big", big, BIG);
    check_file(c, MUST, "probe", "/etc/motd", name, strlen(name));
    check_file(c, MUST, "probe", "/usr/lib/deep/file", "deep\n", 5);
    (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/probe");
}

static void hold_to_account(struct attack *k, bool was_cut)
{
    struct ld_client *c = k->d->client;
    int images = 0, containers = 0, volumes = 0;

    for (int i = 0; i < ACTORS; i++) {
        for (int n = 0; n < k->actor[i]->n; n++) {
            const struct life *life = &k->actor[i]->life[n];
            struct ld_text name = name_of(i, n), tag = ld_textf("t-%s", name.s);
            bool has_name, has_tag;

            if (is_there(c, judge(life, CREATE, REMOVE), "/v1/containers/@", name.s)) {
                check_container(c, life, name.s, was_cut);
                containers++;
            }
            volumes += is_there(c, judge(life, CREATE, DROP), "/v1/volumes/@", name.s);
            has_name = is_there(c, judge(life, IMPORT, REMOVE_IMAGE), "/v1/images/@", name.s);
            has_tag = is_there(c, judge(life, TAG, UNTAG), "/v1/images/@", tag.s);
            if (has_name)
                check_image(c, name.s);
            images += has_name || has_tag;
        }
    }
    /* And there is nothing else. */
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/containers"), "items"), containers);
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/volumes"), "items"), volumes);
    cr_expect_eq(ld_count(ld_want(c, 200, "GET", NULL, "/v1/images"), "items"), images);
}

/* ---- nothing is left, and one more start changes nothing ---- */

static bool df_is_du(void *arg)
{
    struct ld_daemon *d = arg;
    struct ld_usage du;
    cJSON *json;

    ld_data_usage(d, &du);
    json = ld_want(d->client, 200, "GET", NULL, "/v1/df");
    return (uint64_t)ld_int(json, "total.bytes") == du.bytes &&
           (uint64_t)ld_int(json, "total.inodes") == du.inodes;
}

static void is_tidy(struct ld_daemon *d)
{
    ld_wait_reaped(d);
    cr_expect_eq(ld_data_count(d, "staging"), 0);
    cr_expect_eq(ld_data_count(d, "quarantine"), 0);
    /* Once is enough: a checkpoint of the database may fall between two looks. */
    cr_expect(ld_test_wait(df_is_du, d, 20), "df is not du");
}

/* Writes down all that is shown, on the disk and mounted. */
static void take_down(const struct ld_daemon *d, const char *file)
{
    static const char *const lists[] = {"/v1/containers", "/v1/volumes", "/v1/images",
                                        "/v1/layers"};

    ld_test_sh(
        "{ find %s -mindepth 1 -maxdepth 2 ! -name 'db*'; "
        "awk -v p=%s 'index($5, p) == 1 {print $4, $5, $6}' /proc/self/mountinfo; } | sort >%s",
        d->data_root, d->run_root, file);
    for (size_t i = 0; i < LD_ARRAY_LEN(lists); i++) {
        autofree char *text = cJSON_Print(ld_want(d->client, 200, "GET", NULL, "%s", lists[i]));
        FILE *out = fopen(file, "ae");

        cr_assert(out && fputs(text, out) >= 0 && fclose(out) == 0);
    }
}

static void start_once_more(struct ld_daemon *d)
{
    take_down(d, "/mnt/before");
    ld_daemon_stop(d);
    ld_daemon_again(d);
    take_down(d, "/mnt/after");
    ld_test_sh("diff /mnt/before /mnt/after >&2");
}

static void remove_all(struct ld_daemon *d, const char *kind, const char *flags)
{
    for (;;) {
        cJSON *json = ld_want(d->client, 200, "GET", NULL, "/v1/%s?limit=1", kind);
        struct ld_text id;

        if (ld_count(json, "items") == 0)
            return;
        id = ld_textf("%s", ld_str(json, "items.0.id"));
        (void)ld_want(d->client, 204, "DELETE", NULL, "/v1/%s/%s%s", kind, id.s, flags);
    }
}

static void clear(struct ld_daemon *d)
{
    remove_all(d, "containers", "?force=1");
    remove_all(d, "volumes", "?purge=1");
    remove_all(d, "images", "?force=1");
    is_tidy(d);
    cr_expect_eq(ld_data_count(d, "w"), 0);
    cr_expect_eq(ld_data_count(d, "volumes"), 0);
    cr_expect_eq(ld_data_count(d, "layers"), 1, "only the empty layer");
    cr_expect_leq(ld_test_count_mounts(d->run_root), 3, "stage, backing and mnt");
}

/* ---- the blows ---- */

static void strike(struct attack *k)
{
    k->phase = KILLED;
    ld_daemon_kill(k->d);
    join_actors(k);
}

/* Shuts the disk down without flushing, then mounts it again. */
static void cut_power(struct attack *k)
{
    struct timespec moment = {.tv_nsec = 20000000};
    uint32_t how = SHUTDOWN_NOFLUSH;
    int dir = open("/mnt/disk", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    cr_assert_geq(dir, 0);
    ld_test_sh("findmnt -no SOURCE /mnt/disk > /mnt/device");
    k->phase = CUT;
    cr_assert_eq(ioctl(dir, SHUTDOWN_IOCTL, &how), 0, "%s", strerror(errno));
    ld_close(dir);
    (void)nanosleep(&moment, NULL); /* the daemon goes on for a moment on a dead disk */
    ld_daemon_kill(k->d);
    join_actors(k);
    /* Views at the stage are mounts too, and would keep the dead superblock. And the loop device
     * needs a second user, or it detaches with the unmount. */
    ld_test_sh("exec 9<$(cat /mnt/device); "
               "awk -v p=%s/ 'index($5, p) == 1 {print $5}' /proc/self/mountinfo | tac | "
               "while read -r m; do umount -l $m; done; "
               "umount /mnt/disk && mount $(cat /mnt/device) /mnt/disk",
               k->d->run_root);
}

static unsigned first_seed(void)
{
    const char *text = getenv("LD_SEED");
    uint64_t seed = 0;

    if (!text)
        cr_assert_eq(getrandom(&seed, 4, 0), 4);
    else
        cr_assert_eq(ld_parse_u64(text, 0, UINT32_MAX, &seed), 0);
    (void)fprintf(stderr, "attack: LD_SEED=%u\n", (unsigned)seed);
    return (unsigned)seed;
}

static void attack(const char *disk, int rounds, void (*blow)(struct attack *k))
{
    const char *text = getenv("LD_ATTACK_ROUNDS");
    struct attack k = {.d = ld_daemon_start(disk, NULL)};
    unsigned seed = first_seed();
    uint64_t n = (uint64_t)rounds;

    if (text)
        cr_assert_eq(ld_parse_u64(text, 1, 10000, &n), 0);
    for (uint64_t round = 0; round < n; round++) {
        start_actors(&k, seed + (unsigned)round * ACTORS);
        let_act(&k, seed + (unsigned)round);
        blow(&k);
        ld_daemon_again(k.d);
        hold_to_account(&k, blow == cut_power);
        is_tidy(k.d);
        start_once_more(k.d);
        clear(k.d);
        free_actors(&k);
    }
    ld_api_finish(k.d);
}

LD_TEST(attack, by_kill_at_any_time_loses_nothing)
{
    attack("data", 3, strike);
}

LD_TEST(attack, by_power_cut_on_ext4_loses_nothing)
{
    ld_close(ld_test_fs("disk", "ext4", 512));
    attack("disk", 2, cut_power);
}

LD_TEST(attack, by_power_cut_on_xfs_loses_nothing)
{
    ld_close(ld_test_fs("disk", "xfs", 512));
    attack("disk", 2, cut_power);
}

/* ---- a full disk ---- */

/* All but `kib` of the disk is taken. */
static void fill_disk(unsigned kib)
{
    ld_test_sh("cd disk; free=$(stat -f -c '%%f * %%S / 1024' . | xargs expr); "
               "[ $free -lt 16384 ] || fallocate -l $((free - 8192))K fill; "
               "dd if=/dev/zero of=fill2 bs=4k 2>/dev/null; truncate -s -%uK fill2",
               kib);
}

static void expect_room_or_no_space(struct ld_client *c, const char *method, const char *json,
                                    const char *target, const struct ld_blob *body)
{
    const struct ld_reply *reply =
        ld_call(c, &(struct ld_call){.method = method,
                                     .target = target,
                                     .json = json,
                                     .content_type = json ? NULL : "application/octet-stream",
                                     .body = body ? body->data : NULL,
                                     .body_len = body ? body->len : 0});

    cr_expect(reply->status < 300 || reply->status == 404 || reply->status == 507, "%s %s: %d %s",
              method, target, reply->status, reply->body);
}

static void expect_gone(struct ld_client *c, const char *target)
{
    const struct ld_reply *reply =
        ld_call(c, &(struct ld_call){.method = "DELETE", .target = target});

    cr_expect(reply->status == 204 || reply->status == 404, "%s: %d %s", target, reply->status,
              reply->body);
}

static bool has_reserve(void *arg)
{
    struct ld_daemon *d = arg;
    autofree char *path = ld_asprintf("%s/reserve", d->data_root);
    struct stat st;

    return stat(path, &st) == 0 && st.st_blocks * 512 >= 64 << 20;
}

LD_TEST(attack, by_a_disk_that_is_full_at_every_step_leaves_nothing)
{
    static const char *const args[] = {"--config", "/mnt/conf", NULL};
    static const unsigned room[] = {0, 4, 8, 12, 20, 32, 64, 128, 256, 512};
    struct ld_blob archive = make_archive("full");
    struct ld_daemon *d;
    struct ld_client *c;
    size_t layers;

    ld_test_sh("printf '[storage]\nmin_free = 0\n' > conf");
    ld_close(ld_test_fs("disk", "ext4", 500));
    d = ld_daemon_start("disk", args);
    c = d->client;
    ld_have_base(c);
    layers = ld_data_count(d, "layers");
    for (size_t i = 0; i < LD_ARRAY_LEN(room); i++) {
        /* The reaper, whom a removal wakes, takes the reserve back. */
        (void)ld_create(c, "web", "base", NULL);
        (void)ld_want(c, 204, "DELETE", NULL, "/v1/containers/web");
        cr_assert(ld_test_wait(has_reserve, d, 30));
        fill_disk(room[i]);
        expect_room_or_no_space(c, "PUT",
                                "{'image':'base','mounts':[{'type':'volume','source':'v',"
                                "'target':'/etc'}]}",
                                "/v1/containers/web", NULL);
        expect_room_or_no_space(c, "POST", NULL, "/v1/containers/web/mount", NULL);
        expect_room_or_no_space(c, "PUT", NULL, "/v1/containers/web/files?path=/new", &archive);
        expect_room_or_no_space(c, "PUT", "{}", "/v1/volumes/other", NULL);
        expect_room_or_no_space(c, "POST", NULL, "/v1/images/import?ref=full", &archive);
        expect_gone(c, "/v1/containers/web?force=1");
        expect_gone(c, "/v1/volumes/v?purge=1");
        expect_gone(c, "/v1/volumes/other?purge=1");
        expect_gone(c, "/v1/images/full");
        ld_wait_reaped(d);
        cr_expect_eq(ld_data_count(d, "w"), 0, "with %u KiB", room[i]);
        cr_expect_eq(ld_data_count(d, "volumes"), 0, "with %u KiB", room[i]);
        cr_expect_eq(ld_data_count(d, "layers"), layers, "with %u KiB", room[i]);
        cr_expect_eq(ld_data_count(d, "staging"), 0, "with %u KiB", room[i]);
        ld_test_sh("rm -f disk/fill disk/fill2");
    }
    (void)ld_create(c, "web", "base", NULL);
    (void)ld_mount(c, "web");
    ld_unmount(c, "web");
    is_tidy(d);
    start_once_more(d);
    ld_blob_done(&archive);
    ld_api_finish(d);
}
