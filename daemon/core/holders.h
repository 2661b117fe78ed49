/* Who keeps a mount busy: processes with a working directory, root, program or open file on it.
 *
 * Blocking, any worker. Needs CAP_SYS_PTRACE to see other users' processes; without it the list is
 * what could be seen.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "daemon/base/buf.h"

enum { LD_MAX_HOLDERS = 6 };

struct ld_holder {
    pid_t pid;
    char command[32];
    char unit[64];   /* the last part of its control group, "" when there is none */
    const char *use; /* "cwd", "root", "exe", "file" */
};

/* By the device of the file system that dir shows (an overlay has one of its own); for a mount
 * whose device others share, by mount id (same_mount). Returns the number found, at most
 * LD_MAX_HOLDERS. */
size_t ld_holders_find(int dir, bool same_mount, struct ld_holder ret[LD_MAX_HOLDERS]);

/* "1234 (bash), 77 (sleep)" and the array of the API's Holder objects. */
void ld_holders_text(const struct ld_holder *holder, size_t n, struct ld_buf *text);
void ld_holders_json(const struct ld_holder *holder, size_t n, struct ld_buf *json);
