/* A running daemon with a client, for one test of the API, and the steps most of them take. All
 * asserts. */
#pragma once

#include "tests/lib/client.h"
#include "tests/lib/daemon.h"
#include "tests/lib/env.h"
#include "tests/lib/image.h"

struct cJSON;

/* Like LD_TEST, with a fresh daemon `d` on a tmpfs and its client `c`. At the end the daemon must
 * be alive, have nothing under way, and stop cleanly. */
#define LD_API_TEST(suite, sentence)                                                               \
    static void ld_api_body_##suite##_##sentence(struct ld_daemon *d, struct ld_client *c);        \
    LD_TEST(suite, sentence)                                                                       \
    {                                                                                              \
        struct ld_daemon *d = ld_daemon_start("data", NULL);                                       \
        ld_api_body_##suite##_##sentence(d, d->client);                                            \
        ld_api_finish(d);                                                                          \
    }                                                                                              \
    static void ld_api_body_##suite##_##sentence(struct ld_daemon *d __attribute__((unused)),      \
                                                 struct ld_client *c __attribute__((unused)))

void ld_api_finish(struct ld_daemon *d);

/* A name that is text of its own, so that several can be in one call. */
struct ld_text {
    char s[256];
};
struct ld_text ld_textf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

void ld_have_base(struct ld_client *c); /* imports base:latest; ld_have_app: app:latest */
void ld_have_app(struct ld_client *c);
/* Creates a container of an image with more members ("'read_only':true" or NULL); its id. */
struct ld_text ld_create(struct ld_client *c, const char *name, const char *image,
                         const char *members);
/* Mounts it; the mountpoint. */
struct ld_text ld_mount(struct ld_client *c, const char *name);
void ld_unmount(struct ld_client *c, const char *name);

/* Digest of everything in a tree but atimes and ctimes: names, types, modes, owners, sizes,
 * content, targets, devices, mtimes, xattrs, link counts. */
struct ld_text ld_tree_digest(const char *path);
/* Bytes and inodes below the data root, as du counts. */
struct ld_usage;
void ld_data_usage(const struct ld_daemon *d, struct ld_usage *ret);
/* GET /v1/df?verify=1 says the same, in total and as the sum of its parts; waits until the daemon
 * has done what it does by itself. */
void ld_df_is_du(const struct ld_daemon *d, struct ld_client *c);
/* Number of entries of a directory below the data root ("w", "layers", "trash"). */
size_t ld_data_count(const struct ld_daemon *d, const char *name);
/* Waits until that number is n: layers are folded, and leave, in the background. */
void ld_wait_count(const struct ld_daemon *d, const char *name, size_t n);
/* Waits until the trash is empty. */
void ld_wait_reaped(const struct ld_daemon *d);

/* The "kind path" lines of a container's changes, in order, joined by ", ". */
struct ld_blob ld_changes(struct ld_client *c, const char *name);

/* Takes a snapshot; its id. */
struct ld_text ld_take_snapshot(struct ld_client *c, const char *container, const char *snapshot);
/* Runs shell commands in the container's root, then unmounts it again. */
void ld_change(struct ld_client *c, const char *container, const char *commands);
/* ld_tree_digest of its root, mounted for that. */
struct ld_text ld_root_digest(struct ld_client *c, const char *container);
/* A process that holds what is mounted at path in a mount namespace of its own; the caller ends it
 * by ld_hold_end. */
pid_t ld_hold_elsewhere(const char *path);
void ld_hold_end(pid_t holder);
/* Once the trash is empty. The database itself grows now and then between the two looks: waits. */
void ld_expect_df_is_du(const struct ld_daemon *d, struct ld_client *c);
