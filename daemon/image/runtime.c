/* Runtime bundles: see runtime.h. */
#include "daemon/image/runtime.h"

#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "daemon/base/err.h"
#include "daemon/base/mem.h"
#include "daemon/image/doc.h"

void ld_process_done(struct ld_process *process)
{
    ld_strv_free_p(&process->args);
    ld_strv_free_p(&process->env);
    ld_free_p(&process->user);
    ld_free_p(&process->cwd);
}

/* ---- what is run ---- */

static void append(char ***list, size_t *cap, const char *text)
{
    size_t n = ld_strv_len(*list);

    ld_grow(list, cap, n + 2, sizeof(**list));
    (*list)[n] = ld_strdup(text);
}

static void append_all(char ***list, size_t *cap, char *const *from)
{
    for (size_t i = 0; from && from[i]; i++)
        append(list, cap, from[i]);
}

/* "NAME=VALUE" in the place of an earlier one of that name. */
static void set_env(char ***env, size_t *cap, const char *text)
{
    size_t len = strcspn(text, "=");

    for (size_t i = 0; *env && (*env)[i]; i++) {
        if (strncmp((*env)[i], text, len) == 0 && ((*env)[i][len] == '=' || !(*env)[i][len])) {
            free((*env)[i]);
            (*env)[i] = ld_strdup(text);
            return;
        }
    }
    append(env, cap, text);
}

struct wishes {
    char **entrypoint, **cmd, **env;
    const char *user, *cwd; /* borrowed */
};

static void wishes_done(struct wishes *w)
{
    ld_strv_free_p(&w->entrypoint);
    ld_strv_free_p(&w->cmd);
    ld_strv_free_p(&w->env);
}

static int read_wishes(const cJSON *json, struct wishes *w, struct ld_err *err)
{
    struct ld_doc_reader r = {.what = "the container's config", .err = err};

    if (!json)
        return 0;
    return ld_doc_strings(&r, json, "entrypoint", &w->entrypoint) < 0 ||
                   ld_doc_strings(&r, json, "cmd", &w->cmd) < 0 ||
                   ld_doc_strings(&r, json, "env", &w->env) < 0 ||
                   ld_doc_string(&r, json, "user", false, &w->user) < 0 ||
                   ld_doc_string(&r, json, "working_dir", false, &w->cwd) < 0
               ? -1
               : 0;
}

int ld_process_merge(const struct ld_oci_config *image, const char *config, struct ld_process *ret,
                     struct ld_err *err)
{
    static const struct ld_oci_config none = {.user = NULL};
    LD_AUTO(ld_doc_free_p) cJSON *json = NULL;
    LD_AUTO(wishes_done) struct wishes w = {.user = NULL};
    struct ld_process p = {.args = NULL};
    size_t n_args = 0;
    size_t n_env = 0;
    const char *cwd;

    if ((config &&
         ld_doc_parse(config, strlen(config), "the container's config", &json, err) < 0) ||
        read_wishes(json, &w, err) < 0) {
        err->code = LD_E_CORRUPT; /* it was checked when it was stored */
        return -1;
    }
    if (!image)
        image = &none;
    append_all(&p.args, &n_args, w.entrypoint ? w.entrypoint : image->entrypoint);
    append_all(&p.args, &n_args, w.cmd || w.entrypoint ? w.cmd : image->cmd);
    for (size_t i = 0; image->env && image->env[i]; i++)
        set_env(&p.env, &n_env, image->env[i]);
    for (size_t i = 0; w.env && w.env[i]; i++)
        set_env(&p.env, &n_env, w.env[i]);
    if (w.user ? *w.user != '\0' : image->user != NULL)
        p.user = ld_strdup(w.user ? w.user : image->user);
    cwd = w.cwd && *w.cwd ? w.cwd : image->workdir;
    p.cwd = ld_asprintf("%s%s", cwd && *cwd == '/' ? "" : "/", cwd ? cwd : "");
    *ret = p;
    return 0;
}

/* ---- config.json ---- */

static const char *const capabilities[] = {
    "CAP_AUDIT_WRITE", "CAP_CHOWN",   "CAP_DAC_OVERRIDE",     "CAP_FOWNER",    "CAP_FSETID",
    "CAP_KILL",        "CAP_MKNOD",   "CAP_NET_BIND_SERVICE", "CAP_NET_RAW",   "CAP_SETFCAP",
    "CAP_SETGID",      "CAP_SETPCAP", "CAP_SETUID",           "CAP_SYS_CHROOT"};

static const char *const masked[] = {"/proc/acpi",
                                     "/proc/asound",
                                     "/proc/interrupts",
                                     "/proc/kcore",
                                     "/proc/keys",
                                     "/proc/latency_stats",
                                     "/proc/sched_debug",
                                     "/proc/scsi",
                                     "/proc/timer_list",
                                     "/proc/timer_stats",
                                     "/sys/devices/virtual/powercap",
                                     "/sys/firmware"};

static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                        "/proc/sysrq-trigger"};

static const struct {
    const char *target, *type, *source, *options; /* options: separated by commas */
} mounts[] = {
    {"/proc", "proc", "proc", "nosuid,noexec,nodev"},
    {"/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"},
    {"/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"},
    {"/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=65536k"},
    {"/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"},
    {"/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"},
    {"/sys/fs/cgroup", "cgroup", "cgroup", "nosuid,noexec,nodev,relatime,ro"},
};

static void add_text(cJSON *list, const char *text)
{
    cJSON_AddItemToArray(list, cJSON_CreateString(text));
}

static cJSON *add_list(cJSON *to, const char *name, const char *const *text, size_t n)
{
    cJSON *list = cJSON_AddArrayToObject(to, name);

    for (size_t i = 0; i < n; i++)
        add_text(list, text[i]);
    return list;
}

static void add_capabilities(cJSON *process)
{
    cJSON *json = cJSON_AddObjectToObject(process, "capabilities");

    (void)add_list(json, "bounding", capabilities, LD_ARRAY_LEN(capabilities));
    (void)add_list(json, "effective", capabilities, LD_ARRAY_LEN(capabilities));
    (void)add_list(json, "permitted", capabilities, LD_ARRAY_LEN(capabilities));
}

static bool has_env(char *const *env, const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; env && env[i]; i++) {
        if (strncmp(env[i], name, len) == 0 && env[i][len] == '=')
            return true;
    }
    return false;
}

static void add_default(cJSON *list, char *const *env, const char *name, const char *value)
{
    autofree char *text = ld_asprintf("%s=%s", name, value);

    if (!has_env(env, name))
        add_text(list, text);
}

static void add_env(cJSON *process, const struct ld_runtime *r)
{
    cJSON *list = cJSON_AddArrayToObject(process, "env");
    char *const *env = r->process->env;

    add_default(list, env, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    add_default(list, env, "HOSTNAME", r->hostname);
    add_default(list, env, "HOME", r->user->home);
    if (r->has_terminal)
        add_default(list, env, "TERM", "xterm");
    for (size_t i = 0; env && env[i]; i++)
        add_text(list, env[i]);
}

static void add_process(cJSON *json, const struct ld_runtime *r)
{
    cJSON *process = cJSON_AddObjectToObject(json, "process");
    cJSON *user = cJSON_AddObjectToObject(process, "user");
    cJSON *args = cJSON_AddArrayToObject(process, "args");
    cJSON *groups;

    cJSON_AddBoolToObject(process, "terminal", r->has_terminal);
    cJSON_AddNumberToObject(user, "uid", r->user->uid);
    cJSON_AddNumberToObject(user, "gid", r->user->gid);
    groups = r->user->n_groups ? cJSON_AddArrayToObject(user, "additionalGids") : NULL;
    for (size_t i = 0; i < r->user->n_groups; i++)
        cJSON_AddItemToArray(groups, cJSON_CreateNumber(r->user->groups[i]));
    for (size_t i = 0; r->process->args && r->process->args[i]; i++)
        add_text(args, r->process->args[i]);
    add_env(process, r);
    cJSON_AddStringToObject(process, "cwd", r->process->cwd);
    add_capabilities(process);
    cJSON_AddBoolToObject(process, "noNewPrivileges", false);
}

static void add_mounts(cJSON *json)
{
    cJSON *list = cJSON_AddArrayToObject(json, "mounts");

    for (size_t i = 0; i < LD_ARRAY_LEN(mounts); i++) {
        cJSON *mount = cJSON_CreateObject();
        cJSON *options = NULL;
        autofree char *text = ld_strdup(mounts[i].options);
        char *rest = text;

        cJSON_AddStringToObject(mount, "destination", mounts[i].target);
        cJSON_AddStringToObject(mount, "type", mounts[i].type);
        cJSON_AddStringToObject(mount, "source", mounts[i].source);
        options = cJSON_AddArrayToObject(mount, "options");
        for (const char *option; (option = strsep(&rest, ","));)
            add_text(options, option);
        cJSON_AddItemToArray(list, mount);
    }
}

static void add_linux(cJSON *json, const struct ld_runtime *r)
{
    static const char *const namespaces[] = {"pid", "ipc", "uts", "mount", "cgroup", "network"};
    cJSON *lin = cJSON_AddObjectToObject(json, "linux");
    cJSON *resources = cJSON_AddObjectToObject(lin, "resources");
    cJSON *devices = cJSON_AddArrayToObject(resources, "devices");
    cJSON *rule = cJSON_CreateObject();
    cJSON *list = cJSON_AddArrayToObject(lin, "namespaces");

    cJSON_AddBoolToObject(rule, "allow", false); /* runtimes allow the usual ones by themselves */
    cJSON_AddStringToObject(rule, "access", "rwm");
    cJSON_AddItemToArray(devices, rule);
    for (size_t i = 0; i < LD_ARRAY_LEN(namespaces) - (r->host_network ? 1 : 0); i++) {
        cJSON *ns = cJSON_CreateObject();

        cJSON_AddStringToObject(ns, "type", namespaces[i]);
        cJSON_AddItemToArray(list, ns);
    }
    (void)add_list(lin, "maskedPaths", masked, LD_ARRAY_LEN(masked));
    (void)add_list(lin, "readonlyPaths", read_only, LD_ARRAY_LEN(read_only));
}

char *ld_runtime_render(const struct ld_runtime *r)
{
    cJSON *json = cJSON_CreateObject();
    cJSON *root;
    char *text;

    cJSON_AddStringToObject(json, "ociVersion", "1.0.2");
    add_process(json, r);
    root = cJSON_AddObjectToObject(json, "root");
    cJSON_AddStringToObject(root, "path", r->root);
    cJSON_AddBoolToObject(root, "readonly", r->is_read_only);
    cJSON_AddStringToObject(json, "hostname", r->hostname);
    add_mounts(json);
    add_linux(json, r);
    text = cJSON_Print(json);
    cJSON_Delete(json);
    if (!text)
        abort(); /* no memory, as ld_alloc0 would */
    return text;
}
