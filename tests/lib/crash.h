/* A client that works until the daemon dies under it; what was acknowledged is then held against
 * what is there. The work makes numbered objects of a container (or volume) whose /number is the
 * number of the last one, and removes the oldest of them again. All asserts, but for the client's
 * own calls: these fail when the daemon is gone, which ends the work. */
#pragma once

#include <pthread.h>
#include <stdbool.h>

struct ld_client;
struct ld_daemon;

struct ld_crash {
    struct ld_daemon *d;
    const char *owner; /* "/v1/containers/web", "/v1/volumes/data": borrowed; made by the caller */
    int made, gone;    /* objects 0 … were acknowledged, those below `gone` removed again */
    bool is_removing;  /* of object `gone` it is not known */
    bool is_over;
    struct ld_client *client; /* the worker's own */
    void (*work)(struct ld_crash *crash);
    pthread_t thread;
};

/* Runs work in a thread of its own. */
void ld_crash_start(struct ld_crash *crash, struct ld_daemon *d, const char *owner,
                    void (*work)(struct ld_crash *crash));
/* After that time, which is the test's input: kill -9, or a power cut of the file system `disk`.
 * Then the worker has ended, and the daemon is there again. */
void ld_crash_kill(struct ld_crash *crash, long ms);
void ld_crash_cut_power(struct ld_crash *crash, long ms, const char *disk);

/* For the work. The status of the answer, 0 for none. */
int ld_crash_call(struct ld_crash *crash, const char *method, const char *json, const char *target);
bool ld_crash_put_number(struct ld_crash *crash, int n);
/* Counts object `made` when its status says that it was made; false: it is over. What is answered
 * while the power goes was perhaps not: a sync that the cut overtakes may say that all is well.
 * Nobody hears of it after a real cut. */
bool ld_crash_made(struct ld_crash *crash, int status);
bool ld_crash_remove_oldest(struct ld_crash *crash, const char *target);

/* For the account. Of objects from this one to `made` all is to be there. */
int ld_crash_first(const struct ld_crash *crash);
/* The object's /number is that; then it is removed for good. */
void ld_crash_expect_number(struct ld_client *c, const char *object, int n);
