/* A real layerd process in the test's private world: started, stopped, killed, looked at from
 * outside.
 *
 * The program is $LAYERD, else the build's own. Its roots lie below ld_test_dir(); it shares the
 * test's mount namespace and dies with the test. What it says goes to ld_test_dir()/layerd.log, or
 * to the terminal with LD_TEST_LOG=1. Everything here asserts.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct ld_client;

struct ld_daemon {
    pid_t pid; /* 0: not running */
    char *data_root, *run_root, *socket;
    const char *const *args; /* more of them, NULL at the end; or NULL. Borrowed */
    struct ld_client *client;
};

/* Starts it and waits until it answers. data_root: "data" (a directory in the tmpfs) or the name of
 * a file system made by ld_test_fs; the daemon's root is data_root/root. */
struct ld_daemon *ld_daemon_start(const char *data_root, const char *const *args);
/* The same daemon again, on the same roots (after stop, kill or a crash). */
void ld_daemon_again(struct ld_daemon *d);
/* Waits for a start that must fail; returns what it said (free it). The daemon must not be running.
 */
char *ld_daemon_fails(struct ld_daemon *d);

/* SIGTERM; it must exit with 0 within a minute. */
void ld_daemon_stop(struct ld_daemon *d);
/* SIGKILL, and waits until it is gone. */
void ld_daemon_kill(struct ld_daemon *d);
/* The power goes: shuts the file system FS (made by ld_test_fs, ext4 or xfs) below the data root
 * down without flushing, kills the daemon, unmounts all of it and mounts it again. */
void ld_daemon_cut_power(struct ld_daemon *d, const char *fs);
/* Stop, when it is running, then free. */
void ld_daemon_end(struct ld_daemon *d);

/* Did it end by itself? Then the log's end is shown. */
bool ld_daemon_is_alive(const struct ld_daemon *d);
void ld_daemon_show_log(void);

/* Whether a limit on the daemon's memory means something: not with a sanitizer's shadow in it. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LD_MEMORY_COUNTS false
#else
#define LD_MEMORY_COUNTS true
#endif

uint64_t ld_daemon_rss(const struct ld_daemon *d);      /* VmRSS in bytes */
uint64_t ld_daemon_peak_rss(const struct ld_daemon *d); /* VmHWM since the last reset */
void ld_daemon_reset_peak(const struct ld_daemon *d);
size_t ld_daemon_fds(const struct ld_daemon *d);
/* Until it has that many or fewer, for at most `seconds`. */
bool ld_daemon_wait_fds(const struct ld_daemon *d, size_t most, unsigned seconds);
/* Lines of mountinfo whose mount point begins with the prefix ("" is all). */
size_t ld_test_count_mounts(const char *prefix);
