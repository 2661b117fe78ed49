/* Users of containers: see account.h. */
#include "daemon/image/account.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/err.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"

enum { MAX_FIELDS = 7 };

/* A line of passwd(5) or group(5), cut at its colons; missing fields are "". */
struct line {
    char *text;
    const char *field[MAX_FIELDS];
};

static void line_done(struct line *l)
{
    ld_free_p(&l->text);
}

/* The next line of *at; false at the end. */
static bool next_line(const char **at, struct line *l)
{
    size_t len = strcspn(*at, "\n");
    char *rest;

    line_done(l);
    if (!**at)
        return false;
    l->text = rest = ld_strndup(*at, len);
    *at += len + ((*at)[len] == '\n');
    for (size_t i = 0; i < MAX_FIELDS; i++) {
        char *field = strsep(&rest, ":");

        l->field[i] = field ? field : "";
    }
    return true;
}

static bool read_id(const char *text, uint32_t *ret)
{
    uint64_t id = 0;

    /* -1 means "no change" to the kernel */
    if (ld_parse_u64(text, 0, UINT32_MAX - 1, &id) < 0)
        return false;
    *ret = (uint32_t)id;
    return true;
}

/* The line whose name (field 0) or id (field 2) is asked for; as libc, the first one counts. A name
 * wins over an id. */
static bool find(const char *file, const char *what, struct line *ret)
{
    uint32_t id = 0;
    uint32_t its = 0;
    bool is_id = read_id(what, &id);
    const char *at = file;

    while (next_line(&at, ret)) {
        if (strcmp(ret->field[0], what) == 0)
            return true;
    }
    at = file;
    while (is_id && next_line(&at, ret)) {
        if (ret->field[0][0] && read_id(ret->field[2], &its) && its == id)
            return true;
    }
    return false;
}

/* Is a name in a list "a,b,c"? */
static bool lists(const char *list, const char *name)
{
    size_t len = strlen(name);

    for (const char *at = list; *at; at += strcspn(at, ",")) {
        at += *at == ',';
        if (strncmp(at, name, len) == 0 && (at[len] == ',' || !at[len]))
            return true;
    }
    return false;
}

static void add_groups(const char *group, const char *name, struct ld_account *u)
{
    LD_AUTO(line_done) struct line line = {.text = NULL};
    const char *at = group;
    size_t cap = 0;
    uint32_t gid = 0;

    while (u->n_groups < LD_MAX_USER_GROUPS && next_line(&at, &line)) {
        if (!lists(line.field[3], name) || !read_id(line.field[2], &gid))
            continue;
        ld_grow(&u->groups, &cap, u->n_groups + 1, sizeof(*u->groups));
        u->groups[u->n_groups++] = gid;
    }
}

static int unknown(const char *what, const char *name, const char *file, struct ld_err *err)
{
    (void)ld_err_set(err, LD_E_CONFLICT, "the %s '%s' is not in the container's %s", what, name,
                     file);
    return ld_err_hint(err, "give a number, or a name that is there");
}

static int find_user(const char *name, const char *passwd, struct line *line, struct ld_account *u,
                     struct ld_err *err)
{
    bool is_there = find(passwd, name, line);

    if (is_there && read_id(line->field[2], &u->uid)) {
        if (!read_id(line->field[3], &u->gid))
            u->gid = 0;
        if (line->field[5][0] == '/')
            u->home = ld_strdup(line->field[5]);
        return 0;
    }
    line_done(line);
    line->field[0] = "";
    return read_id(name, &u->uid) ? 0 : unknown("user", name, "/etc/passwd", err);
}

static int find_group(const char *name, const char *group, struct ld_account *u, struct ld_err *err)
{
    LD_AUTO(line_done) struct line line = {.text = NULL};

    if (find(group, name, &line) && read_id(line.field[2], &u->gid))
        return 0;
    return read_id(name, &u->gid) ? 0 : unknown("group", name, "/etc/group", err);
}

static int resolve(const char *user, const char *passwd, const char *group, struct ld_account *u,
                   struct ld_err *err)
{
    LD_AUTO(line_done) struct line line = {.text = NULL, .field = {""}};
    const char *colon = strchr(user, ':');
    autofree char *name = colon ? ld_strndup(user, (size_t)(colon - user)) : ld_strdup(user);

    if (find_user(*name ? name : "0", passwd, &line, u, err) < 0)
        return -1;
    if (colon && colon[1])
        return find_group(colon + 1, group, u, err);
    if (line.text && line.field[0][0])
        add_groups(group, line.field[0], u);
    return 0;
}

int ld_account_resolve(const char *user, const char *passwd, const char *group,
                       struct ld_account *ret, struct ld_err *err)
{
    LD_AUTO(ld_account_done) struct ld_account u = {.uid = 0};

    if (resolve(user ? user : "", passwd, group, &u, err) < 0)
        return -1;
    if (!u.home)
        u.home = ld_strdup("/");
    *ret = u;
    u = (struct ld_account){.uid = 0};
    return 0;
}

void ld_account_done(struct ld_account *user)
{
    ld_free_p(&user->groups);
    ld_free_p(&user->home);
    user->n_groups = 0;
}
