/* core/config: defaults, file, drop-ins, flags, and what is refused. */
#include <string.h>
#include <sys/stat.h>

#include "daemon/core/config.h"
#include "tests/lib/env.h"

static int read_options(struct ld_options *ret, struct ld_err *err, const char *a, const char *b,
                        const char *c, const char *d)
{
    char *argv[] = {(char *)"layerd", (char *)a, (char *)b, (char *)c, (char *)d, NULL};
    int argc = 1;

    while (argc < 5 && argv[argc])
        argc++;
    return ld_options_read(argc, argv, ret, err);
}

static void write_conf(const char *name, const char *text)
{
    int dir = ld_test_mkdir("etc");

    ld_test_write(dir, name, text);
    ld_close(dir);
}

LD_TEST(config, has_defaults)
{
    struct ld_options o;
    struct ld_err err = LD_ERR_INIT;

    ld_test_ok(read_options(&o, &err, NULL, NULL, NULL, NULL), &err);
    cr_expect_str_eq(o.config.data_root, "/var/lib/layerd");
    cr_expect_str_eq(o.config.host, "unix:///run/layerd/layerd.sock");
    cr_expect_str_eq(o.config.group, "layerd");
    cr_expect_null(o.config.driver);
    cr_expect_eq(o.config.trash_containers_ms, 0);
    cr_expect_eq(o.config.import.decoder_memory, UINT64_C(160) << 20);
    ld_config_done(&o.config);
}

LD_TEST(config, flags_win_over_drop_ins_over_the_file)
{
    struct ld_options o;
    struct ld_err err = LD_ERR_INIT;

    write_conf("l.conf", "[daemon]\ndata_root = /a\nrun_root = /r\n[log]\nlevel = warn\n"
                         "[storage]\ndriver = vfs\nmin_free = 1G\n[trash]\nkeep_volumes = 7d\n");
    ld_test_sh("mkdir -m 755 etc/l.conf.d");
    write_conf("l.conf.d/20-b.conf", "[daemon]\ndata_root = /c\n");
    write_conf("l.conf.d/10-a.conf", "[daemon]\ndata_root = /b\n[log]\nlevel = debug\n");
    write_conf("l.conf.d/ignored.txt", "nonsense");
    ld_test_ok(read_options(&o, &err, "--config", "/mnt/etc/l.conf", "-s", "overlay"), &err);
    cr_expect_str_eq(o.config.data_root, "/c");
    cr_expect_str_eq(o.config.host, "unix:///r/layerd.sock");
    cr_expect_str_eq(o.config.driver, "overlay");
    cr_expect_eq(o.config.log_level, LD_LOG_DEBUG);
    cr_expect_eq(o.config.min_free_bytes, UINT64_C(1) << 30);
    cr_expect_eq(o.config.trash_volumes_ms, UINT64_C(7) * 24 * 3600 * 1000);
    ld_config_done(&o.config);
}

LD_TEST(config, says_where_and_what_is_wrong)
{
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"[daemon]\nno_such = 1\n", "line 2"},
        {"[daemon]\nno_such = 1\n", "no_such"},
        {"[nowhere]\ndata_root = /x\n", "nowhere"},
        {"[log]\nlevel = loud\n", "loud"},
        {"[storage]\nmin_free = many\n", "min_free"},
        {"[trash]\nkeep_volumes = soon\n", "soon"},
        {"[daemon]\nhost = tcp://0.0.0.0:80\n", "tcp://"},
        {"[daemon]\ndata_root = relative\n", "absolute"},
        {"this is no setting\n", "line 1"},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(bad); i++) {
        struct ld_options o;
        struct ld_err err = LD_ERR_INIT;

        write_conf("bad.conf", bad[i].text);
        ld_test_fails(read_options(&o, &err, "--config", "/mnt/etc/bad.conf", NULL, NULL), &err,
                      LD_E_INVALID);
        cr_expect(strstr(err.message, bad[i].message), "'%s' has no '%s'", err.message,
                  bad[i].message);
    }
}

LD_TEST(config, refuses_unknown_flags_and_missing_files)
{
    struct ld_options o;
    struct ld_err err = LD_ERR_INIT;

    ld_test_fails(read_options(&o, &err, "--nonsense", NULL, NULL, NULL), &err, LD_E_INVALID);
    cr_expect(strstr(err.message, "--nonsense"), "%s", err.message);
    ld_test_fails(read_options(&o, &err, "--data-root", NULL, NULL, NULL), &err, LD_E_INVALID);
    ld_test_fails(read_options(&o, &err, "stray", NULL, NULL, NULL), &err, LD_E_INVALID);
    ld_test_fails(read_options(&o, &err, "-l", "loud", NULL, NULL), &err, LD_E_INVALID);
    ld_test_fails(read_options(&o, &err, "--config", "/mnt/none.conf", NULL, NULL), &err, LD_E_IO);
}

LD_TEST(config, knows_version_help_and_check)
{
    struct ld_options o;
    struct ld_err err = LD_ERR_INIT;

    ld_test_ok(read_options(&o, &err, "--version", NULL, NULL, NULL), &err);
    cr_expect(o.version);
    ld_config_done(&o.config);
    ld_test_ok(read_options(&o, &err, "--check-config", NULL, NULL, NULL), &err);
    cr_expect(o.check_config);
    ld_config_done(&o.config);
}
