/* Who a container's process is: the `user` of its config, by its /etc/passwd and /etc/group.
 *
 * The rules are those of Docker and podman: "USER", "UID", "USER:GROUP", "UID:GID" and mixtures; a
 * name must be in the file, a number need not. Without a group it is that of the user's line, else
 * 0, and the groups that list the user are added. Pure; any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct ld_err;

enum { LD_MAX_USER_GROUPS = 1024 };

struct ld_account {
    uint32_t uid, gid;
    uint32_t *groups; /* more ones */
    size_t n_groups;
    char *home; /* "/" when it is not known */
};
void ld_account_done(struct ld_account *user);

/* `user` may be NULL or "": 0. passwd, group: the texts of the files, "" for none. conflict: a name
 * is not in its file. */
int ld_account_resolve(const char *user, const char *passwd, const char *group,
                       struct ld_account *ret, struct ld_err *err);
