/* Settings: see config.h. One table says for each key how it is read; file, drop-ins and flags use
 * it. */
#include "daemon/core/config.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ini.h>

#include "daemon/base/mem.h"
#include "daemon/base/parse.h"

static const char default_file[] = "/etc/layerd/layerd.conf";

const char ld_usage_text[] =
    "usage: layerd [OPTION…]\n"
    "\n"
    "Serves container file systems over a unix socket. See layerd(8), layerd.conf(5).\n"
    "\n"
    "      --config FILE           read FILE (default /etc/layerd/layerd.conf, if it exists)\n"
    "                              and FILE.d/*.conf\n"
    "      --data-root DIR         where everything is kept (default /var/lib/layerd)\n"
    "      --run-root DIR          socket and mount points (default /run/layerd)\n"
    "  -H, --host ADDRESS          unix:///PATH, or fd:// for a socket from the service manager\n"
    "                              (default unix://RUN_ROOT/layerd.sock)\n"
    "      --read-host ADDRESS     a second socket for readers: metadata only\n"
    "  -G, --group GROUP           who may use the socket besides root (default layerd)\n"
    "  -s, --storage-driver NAME   overlay or vfs (default: the best that works)\n"
    "  -l, --log-level LEVEL       debug, info, warn, error (default info)\n"
    "      --log-format FORMAT     text, json, journal (default text)\n"
    "      --check-config          read the configuration, say what is wrong, and exit\n"
    "      --version               print the version\n"
    "      --help                  print this text\n";

enum kind { TEXT, SIZE, NUMBER, SECONDS, LEVEL, FORMAT, BLOBS };

static const struct key {
    const char *section, *name;
    enum kind kind;
    size_t offset;
} keys[] = {
#define KEY(section, name, kind, field)                                                            \
    {                                                                                              \
        section, name, kind, offsetof(struct ld_config, field)                                     \
    }
    KEY("daemon", "data_root", TEXT, data_root),
    KEY("daemon", "run_root", TEXT, run_root),
    KEY("daemon", "host", TEXT, host),
    KEY("daemon", "read_host", TEXT, read_host),
    KEY("daemon", "group", TEXT, group),
    KEY("daemon", "drain_timeout", SECONDS, drain_timeout_ms),
    KEY("log", "level", LEVEL, log_level),
    KEY("log", "format", FORMAT, log_format),
    KEY("storage", "driver", TEXT, driver),
    KEY("storage", "min_free", SIZE, min_free_bytes),
    KEY("storage", "watch_limits", SECONDS, watch_limits_ms),
    KEY("import", "layer_entries", NUMBER, import.entries),
    KEY("import", "layer_bytes", SIZE, import.layer_bytes),
    KEY("import", "ratio", NUMBER, import.ratio),
    KEY("import", "ratio_from", SIZE, import.ratio_from),
    KEY("import", "decoder_memory", SIZE, import.decoder_memory),
    KEY("import", "keep_blobs", BLOBS, import.keep_blobs),
    KEY("trash", "keep_containers", SECONDS, trash_containers_ms),
    KEY("trash", "keep_images", SECONDS, trash_images_ms),
    KEY("trash", "keep_volumes", SECONDS, trash_volumes_ms),
    KEY("trash", "max_bytes", SIZE, trash_max_bytes),
#undef KEY
};

static void set_defaults(struct ld_config *c)
{
    *c = (struct ld_config){
        .data_root = ld_strdup("/var/lib/layerd"),
        .run_root = ld_strdup("/run/layerd"),
        .group = ld_strdup("layerd"),
        .log_level = LD_LOG_INFO,
        .log_format = LD_LOG_TEXT,
        .import = {.entries = 2000000,
                   .layer_bytes = UINT64_C(1) << 40,
                   .ratio = 1100, /* deflate can't do more than 1,032 */
                   .ratio_from = UINT64_C(1) << 30,
                   .decoder_memory = UINT64_C(160) << 20},
        .min_free_bytes = UINT64_C(64) << 20,
        .trash_volumes_ms = UINT64_C(24) * 3600 * 1000,
        .watch_limits_ms = 10000,
        .drain_timeout_ms = 20000,
    };
}

void ld_config_done(struct ld_config *c)
{
    for (size_t i = 0; i < LD_ARRAY_LEN(keys); i++) {
        if (keys[i].kind == TEXT)
            ld_free_p((char *)c + keys[i].offset);
    }
}

int ld_blobs_parse(const char *text, bool *ret_keep)
{
    if (strcmp(text, "keep") != 0 && strcmp(text, "drop") != 0)
        return -EINVAL;
    *ret_keep = text[0] == 'k';
    return 0;
}

/* 0, or -errno of the parser. */
static int set_value(struct ld_config *c, const struct key *key, const char *text)
{
    void *field = (char *)c + key->offset;

    switch (key->kind) {
    case TEXT:
        ld_free_p(field);
        *(char **)field = *text ? ld_strdup(text) : NULL;
        return 0;
    case SIZE:
        return ld_parse_size(text, field);
    case NUMBER:
        return ld_parse_u64(text, 1, UINT64_MAX, field);
    case SECONDS:
        return strcmp(text, "0") == 0 ? (*(uint64_t *)field = 0, 0) : ld_parse_seconds(text, field);
    case LEVEL:
        return ld_log_level_parse(text, field);
    case FORMAT:
        return ld_log_format_parse(text, field);
    case BLOBS:
        return ld_blobs_parse(text, field);
    }
    return -EINVAL;
}

struct file {
    const char *path;
    struct ld_config *config;
    struct ld_err *err;
    bool failed;
};

/* inih: 0 is an error, whose line it returns in the end; it reads on, but the first error counts.
 */
static int on_value(void *arg, const char *section, const char *name, const char *value)
{
    struct file *f = arg;

    if (f->failed)
        return 1;
    for (size_t i = 0; i < LD_ARRAY_LEN(keys); i++) {
        if (strcmp(keys[i].section, section) != 0 || strcmp(keys[i].name, name) != 0)
            continue;
        if (set_value(f->config, &keys[i], value) == 0)
            return 1;
        f->failed = true;
        (void)ld_err_set(f->err, LD_E_INVALID, "'%s' is no value for %s", value, name);
        return 0;
    }
    f->failed = true;
    (void)ld_err_set(f->err, LD_E_INVALID, "there is no setting '%s' in section [%s]", name,
                     section);
    return 0;
}

static int read_file(const char *path, bool must_exist, struct ld_config *c, struct ld_err *err)
{
    struct file f = {.path = path, .config = c, .err = err};
    FILE *stream = fopen(path, "re");
    int line;

    if (!stream && errno == ENOENT && !must_exist)
        return 0;
    if (!stream)
        return ld_err_sys(err, -errno, "open the configuration '%s'", path);
    line = ini_parse_file(stream, on_value, &f);
    (void)fclose(stream); /* only read */
    if (line == 0)
        return 0;
    if (!f.failed)
        (void)ld_err_set(err, LD_E_INVALID, "this is neither a [section] nor a setting");
    return ld_err_prefix(err, "%s, line %d", path, line);
}

static int is_conf(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);

    return entry->d_name[0] != '.' && len > 5 && strcmp(entry->d_name + len - 5, ".conf") == 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int read_drop_ins(const char *file, struct ld_config *c, struct ld_err *err)
{
    autofree char *dir = ld_asprintf("%s.d", file);
    struct dirent **list = NULL;
    int n = scandir(dir, &list, is_conf, by_bytes), rc = 0;

    if (n < 0)
        return errno == ENOENT ? 0 : ld_err_sys(err, -errno, "read the folder '%s'", dir);
    for (int i = 0; i < n; i++) {
        autofree char *path = ld_asprintf("%s/%s", dir, list[i]->d_name);

        if (rc == 0)
            rc = read_file(path, true, c, err);
        free(list[i]);
    }
    free(list);
    return rc;
}

enum {
    OPT_CONFIG = 256,
    OPT_DATA_ROOT,
    OPT_RUN_ROOT,
    OPT_READ_HOST,
    OPT_LOG_FORMAT,
    OPT_CHECK,
    OPT_VERSION,
    OPT_HELP
};

static const struct option options[] = {
    {"config", required_argument, NULL, OPT_CONFIG},
    {"data-root", required_argument, NULL, OPT_DATA_ROOT},
    {"run-root", required_argument, NULL, OPT_RUN_ROOT},
    {"host", required_argument, NULL, 'H'},
    {"read-host", required_argument, NULL, OPT_READ_HOST},
    {"group", required_argument, NULL, 'G'},
    {"storage-driver", required_argument, NULL, 's'},
    {"log-level", required_argument, NULL, 'l'},
    {"log-format", required_argument, NULL, OPT_LOG_FORMAT},
    {"check-config", no_argument, NULL, OPT_CHECK},
    {"version", no_argument, NULL, OPT_VERSION},
    {"help", no_argument, NULL, OPT_HELP},
    {0},
};

static const struct flag {
    int option;
    const char *key;
} flags[] = {
    {OPT_DATA_ROOT, "data_root"},
    {OPT_RUN_ROOT, "run_root"},
    {'H', "host"},
    {OPT_READ_HOST, "read_host"},
    {'G', "group"},
    {'s', "driver"},
    {'l', "level"},
    {OPT_LOG_FORMAT, "format"},
};

static int set_flag(struct ld_config *c, int option, const char *value, struct ld_err *err)
{
    const char *name = NULL;

    for (size_t i = 0; i < LD_ARRAY_LEN(flags); i++) {
        if (flags[i].option == option)
            name = flags[i].key;
    }
    for (size_t i = 0; name && i < LD_ARRAY_LEN(keys); i++) {
        if (strcmp(keys[i].name, name) == 0 && set_value(c, &keys[i], value) < 0)
            return ld_err_set(err, LD_E_INVALID, "command line: '%s' is no value for %s", value,
                              name);
        if (strcmp(keys[i].name, name) == 0)
            return 0;
    }
    return ld_err_set(err, LD_E_INTERNAL, "flag %d has no key", option);
}

/* Flags win over the file, whose name is a flag: so argv is read twice. */
static int read_flags(int argc, char **argv, bool second, struct ld_options *ret,
                      const char **ret_file, struct ld_err *err)
{
    int option;

    optind = 0; /* glibc: start over */
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":H:G:s:l:", options, NULL)) != -1) {
        switch (option) {
        case OPT_CONFIG:
            *ret_file = optarg;
            break;
        case OPT_CHECK:
            ret->check_config = true;
            break;
        case OPT_VERSION:
            ret->version = true;
            break;
        case OPT_HELP:
            ret->help = true;
            break;
        case '?':
        case ':':
            (void)ld_err_set(err, LD_E_INVALID, "the option '%s' %s", argv[optind - 1],
                             option == ':' ? "needs a value" : "is not known");
            return ld_err_hint(err, "layerd --help lists all options");
        default:
            if (second && set_flag(&ret->config, option, optarg, err) < 0)
                return -1;
        }
    }
    if (optind < argc)
        return ld_err_set(err, LD_E_INVALID, "the argument '%s' is not expected", argv[optind]);
    return 0;
}

static int check_host(const char *name, const char *host, struct ld_err *err)
{
    if (!host || strcmp(host, "fd://") == 0 ||
        (strncmp(host, "unix:///", 8) == 0 && strlen(host) > 8))
        return 0;
    (void)ld_err_set(err, LD_E_INVALID, "%s '%s' is no address", name, host);
    return ld_err_hint(err, "unix:///PATH or fd://; layerd has no TCP");
}

static int check(struct ld_config *c, struct ld_err *err)
{
    if (!c->data_root || c->data_root[0] != '/' || !c->run_root || c->run_root[0] != '/')
        return ld_err_set(err, LD_E_INVALID, "data_root and run_root must be absolute paths");
    if (!c->host)
        c->host = ld_asprintf("unix://%s/layerd.sock", c->run_root);
    return check_host("host", c->host, err) < 0 ? -1 : check_host("read_host", c->read_host, err);
}

int ld_options_read(int argc, char **argv, struct ld_options *ret, struct ld_err *err)
{
    const char *file = NULL;
    const char *used;

    *ret = (struct ld_options){.version = false};
    set_defaults(&ret->config);
    if (read_flags(argc, argv, false, ret, &file, err) < 0)
        goto failed;
    if (ret->help || ret->version)
        return 0;
    used = file ? file : default_file;
    if (read_file(used, file != NULL, &ret->config, err) < 0 ||
        read_drop_ins(used, &ret->config, err) < 0 ||
        read_flags(argc, argv, true, ret, &file, err) < 0 || check(&ret->config, err) < 0)
        goto failed;
    return 0;

failed:
    ld_config_done(&ret->config);
    return -1;
}
