/* The world of one test: a mount namespace of its own with a tmpfs, gone with the process.
 *
 * Criterion runs each test in a process of its own; what is mounted, attached or written here
 * disappears with it, even when the test crashes, so that nothing is ever left on the machine. Root
 * only.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include <criterion/criterion.h>

#include "daemon/base/err.h"

/* Against hanging only: a sanitizer makes the longest ones three times as long. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LD_TEST_SECONDS 900
#else
#define LD_TEST_SECONDS 300
#endif

/* A test whose name is a sentence: LD_TEST(untar, refuses_hardlink_through_symlink). */
#define LD_TEST(suite, sentence)                                                                   \
    static void ld_test_body_##suite##_##sentence(void);                                           \
    Test(suite, sentence, .timeout = LD_TEST_SECONDS)                                              \
    {                                                                                              \
        ld_test_enter();                                                                           \
        ld_test_body_##suite##_##sentence();                                                       \
    }                                                                                              \
    static void ld_test_body_##suite##_##sentence(void)

/* Enters a private mount namespace with an empty tmpfs at ld_test_dir(), the working directory, and
 * an odd umask (0137), since no result may depend on it. Called by LD_TEST. */
void ld_test_enter(void);

/* "/mnt": the test's tmpfs. */
const char *ld_test_dir(void);
/* A descriptor of a fresh directory NAME in it (O_RDONLY|O_DIRECTORY, mode 0755). */
int ld_test_mkdir(const char *name);

/* A file system of `mib` MiB in a loop device ("ext4": with a journal; "xfs", "btrfs"), mounted at
 * ld_test_dir()/NAME; the image lies in the tmpfs, the device detaches itself. Returns a descriptor
 * of its root. Aborts the test where it cannot be made. */
int ld_test_fs(const char *name, const char *type, unsigned mib);

/* Quotas of a btrfs: those of qgroups, or the simple ones (Linux 6.7). */
void ld_test_quotas_on(int dir, bool simple);

/* Writes a whole file (mode 0644, replaced when it exists); reads one whole (NUL added, free it).
 */
void ld_test_write(int dir, const char *path, const char *text);
char *ld_test_read(int dir, const char *path);

/* Runs a shell command in the test's directory; the test fails unless it exits 0. */
void ld_test_sh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Waits until `is_true(arg)` for at most `seconds`; polls, never sleeps blindly. False: time is up.
 */
bool ld_test_wait(bool (*is_true)(void *arg), void *arg, unsigned seconds);

/* The number of open descriptors of this process (leak checks). */
size_t ld_test_count_fds(void);

/* cr_assert that a call succeeded, showing its error; that it failed with a code. */
#define ld_test_ok(call, err)                                                                      \
    do {                                                                                           \
        (err)->message[0] = '\0';                                                                  \
        int ld_rc_ = (call);                                                                       \
        cr_assert_eq(ld_rc_, 0, "%s: %s", #call, (err)->message);                                  \
    } while (0)
#define ld_test_fails(call, err, want)                                                             \
    do {                                                                                           \
        cr_assert_eq((call), -1, "%s should fail", #call);                                         \
        cr_assert_eq((err)->code, (want), "%s: got %s (%s), want %s", #call,                       \
                     ld_code_name((err)->code), (err)->message, ld_code_name(want));               \
        cr_assert_neq((err)->message[0], '\0', "%s says nothing", #call);                          \
    } while (0)

/* A child with its working directory in `path`, which keeps that busy; and its end. */
pid_t ld_test_hold(const char *path);
void ld_test_let_go(pid_t pid);
