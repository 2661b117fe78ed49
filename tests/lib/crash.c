#include "tests/lib/crash.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include <criterion/criterion.h>

#include "daemon/base/mem.h"
#include "tests/lib/api.h"

static void *run(void *arg)
{
    struct ld_crash *crash = arg;

    crash->work(crash);
    return NULL;
}

void ld_crash_start(struct ld_crash *crash, struct ld_daemon *d, const char *owner,
                    void (*work)(struct ld_crash *crash))
{
    *crash =
        (struct ld_crash){.d = d, .owner = owner, .work = work, .client = ld_client_new(d->socket)};
    cr_assert_eq(pthread_create(&crash->thread, NULL, run, crash), 0);
}

static void pause_ms(long ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    (void)nanosleep(&t, NULL);
}

static void finish(struct ld_crash *crash)
{
    __atomic_store_n(&crash->is_over, true, __ATOMIC_RELAXED);
    cr_assert_eq(pthread_join(crash->thread, NULL), 0);
    ld_client_free(crash->client);
    crash->client = NULL;
    ld_daemon_again(crash->d);
}

void ld_crash_kill(struct ld_crash *crash, long ms)
{
    pause_ms(ms);
    ld_daemon_kill(crash->d);
    finish(crash);
}

void ld_crash_cut_power(struct ld_crash *crash, long ms, const char *disk)
{
    pause_ms(ms);
    __atomic_store_n(&crash->is_over, true, __ATOMIC_RELAXED);
    ld_daemon_cut_power(crash->d, disk);
    finish(crash);
}

/* ---- the work ---- */

static bool is_over(const struct ld_crash *crash)
{
    return __atomic_load_n(&crash->is_over, __ATOMIC_RELAXED);
}

static int call(struct ld_crash *crash, const struct ld_call *call)
{
    const struct ld_reply *reply = ld_client_call(crash->client, call);

    return reply ? reply->status : 0;
}

int ld_crash_call(struct ld_crash *crash, const char *method, const char *json, const char *target)
{
    return call(crash, &(struct ld_call){.method = method, .target = target, .json = json});
}

bool ld_crash_put_number(struct ld_crash *crash, int n)
{
    autofree char *target = ld_asprintf("%s/files?path=/number", crash->owner);
    autofree char *text = ld_asprintf("%d", n);

    return call(crash, &(struct ld_call){.method = "PUT",
                                         .target = target,
                                         .content_type = "application/octet-stream",
                                         .body = text,
                                         .body_len = strlen(text)}) == 200;
}

bool ld_crash_made(struct ld_crash *crash, int status)
{
    if (status != 201 || is_over(crash))
        return false;
    crash->made++;
    return true;
}

bool ld_crash_remove_oldest(struct ld_crash *crash, const char *target)
{
    crash->is_removing = true;
    if (ld_crash_call(crash, "DELETE", NULL, target) != 204 || is_over(crash))
        return false;
    crash->gone++;
    crash->is_removing = false;
    return true;
}

/* ---- the account ---- */

int ld_crash_first(const struct ld_crash *crash)
{
    return crash->gone + (crash->is_removing ? 1 : 0);
}

void ld_crash_expect_number(struct ld_client *c, const char *object, int n)
{
    autofree char *target = ld_asprintf("%s/files?path=/number", object);
    autofree char *want = ld_asprintf("%d", n);
    const struct ld_reply *reply =
        ld_call(c, &(struct ld_call){
                       .method = "GET",
                       .target = target,
                       .headers = (const char *const[]){"Accept: application/octet-stream", NULL}});

    cr_expect_eq(reply->status, 200);
    cr_expect_str_eq(reply->body, want, "of object %s it is %s", want, reply->body);
    (void)ld_want(c, 204, "DELETE", NULL, "%s?purge=1", object);
}
