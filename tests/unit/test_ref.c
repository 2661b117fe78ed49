/* image/ref.h: Docker's reference rules, with the corner cases of its own tests. */
#include <string.h>

#include "daemon/image/ref.h"
#include "tests/lib/env.h"

#define HEX64 "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"

LD_TEST(ref, normalizes_and_shortens)
{
    static const struct {
        const char *text, *normal, *familiar;
    } table[] = {
        {"debian", "docker.io/library/debian:latest", "debian:latest"},
        {"debian:12", "docker.io/library/debian:12", "debian:12"},
        {"library/debian", "docker.io/library/debian:latest", "debian:latest"},
        {"docker.io/debian", "docker.io/library/debian:latest", "debian:latest"},
        {"index.docker.io/library/debian:12", "docker.io/library/debian:12", "debian:12"},
        {"index.docker.io/debian", "docker.io/library/debian:latest", "debian:latest"},
        {"user/app", "docker.io/user/app:latest", "user/app:latest"},
        {"docker.io/user/app:v1", "docker.io/user/app:v1", "user/app:v1"},
        {"docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"},
        {"quay.io/org/app", "quay.io/org/app:latest", "quay.io/org/app:latest"},
        {"localhost/app", "localhost/app:latest", "localhost/app:latest"},
        {"localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1"},
        {"reg.local:5000/x/tiny:2", "reg.local:5000/x/tiny:2", "reg.local:5000/x/tiny:2"},
        {"127.0.0.1:5000/docker/docker", "127.0.0.1:5000/docker/docker:latest",
         "127.0.0.1:5000/docker/docker:latest"},
        {"[2001:db8::1]:5000/x", "[2001:db8::1]:5000/x:latest", "[2001:db8::1]:5000/x:latest"},
        {"[2001:db8::1]/x:t", "[2001:db8::1]/x:t", "[2001:db8::1]/x:t"},
        /* Nothing here is a host: no dot, no port, no slash behind it. */
        {"localhost", "docker.io/library/localhost:latest", "localhost:latest"},
        {"localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"},
        {"example.com", "docker.io/library/example.com:latest", "example.com:latest"},
        /* An upper-case first component can only be a host. */
        {"Foo/bar", "Foo/bar:latest", "Foo/bar:latest"},
        {"REG/app:T", "REG/app:T", "REG/app:T"},
        /* The domain must stay where its path would be taken for one. */
        {"docker.io/localhost/x", "docker.io/localhost/x:latest", "docker.io/localhost/x:latest"},
        {"docker.io/foo.bar/x", "docker.io/foo.bar/x:latest", "docker.io/foo.bar/x:latest"},
        {"docker.io/library/foo.bar", "docker.io/library/foo.bar:latest", "foo.bar:latest"},
        {"a--b/c__d.e-f", "docker.io/a--b/c__d.e-f:latest", "a--b/c__d.e-f:latest"},
        {"x:_T.1-", "docker.io/library/x:_T.1-", "x:_T.1-"},
        {"debian@sha256:" HEX64, "docker.io/library/debian@sha256:" HEX64, "debian@sha256:" HEX64},
        {"debian:12@sha256:" HEX64, "docker.io/library/debian:12@sha256:" HEX64,
         "debian:12@sha256:" HEX64},
        {"h:1/x@sha256:" HEX64, "h:1/x@sha256:" HEX64, "h:1/x@sha256:" HEX64},
        {HEX64 "0", "docker.io/library/" HEX64 "0:latest", HEX64 "0:latest"},
        {HEX64 ":t", "docker.io/library/" HEX64 ":t", HEX64 ":t"},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(table); i++) {
        struct ld_err err = LD_ERR_INIT;
        struct ld_reference ref, again;
        char normal[LD_REFERENCE_TEXT], familiar[LD_REFERENCE_TEXT], text[LD_REFERENCE_TEXT];

        ld_test_ok(ld_reference_parse(table[i].text, &ref, &err), &err);
        ld_reference_format(&ref, normal);
        ld_reference_familiar(&ref, familiar);
        cr_expect_str_eq(normal, table[i].normal);
        cr_expect_str_eq(familiar, table[i].familiar);
        /* Both forms mean the same again. */
        ld_test_ok(ld_reference_parse(familiar, &again, &err), &err);
        ld_reference_format(&again, text);
        cr_expect_str_eq(text, normal);
        ld_test_ok(ld_reference_parse(normal, &again, &err), &err);
        ld_reference_format(&again, text);
        cr_expect_str_eq(text, normal);
    }
}

LD_TEST(ref, splits_into_name_tag_and_digest)
{
    struct ld_err err = LD_ERR_INIT;
    char name[LD_REFERENCE_NAME_MAX + 1];
    struct ld_reference ref;

    ld_test_ok(ld_reference_parse("h:5/a/b:t@sha256:" HEX64, &ref, &err), &err);
    cr_expect_str_eq(ref.name, "h:5/a/b");
    cr_expect_str_eq(ref.tag, "t");
    cr_expect_str_eq(ref.digest, "sha256:" HEX64);
    cr_expect_not(ref.is_default_tag);
    ld_test_ok(ld_reference_parse("debian", &ref, &err), &err);
    cr_expect(ref.is_default_tag);
    ld_reference_familiar_name(&ref, name);
    cr_expect_str_eq(name, "debian");
    ld_test_ok(ld_reference_parse("debian@sha256:" HEX64, &ref, &err), &err);
    cr_expect_str_eq(ref.tag, "", "a digest needs no tag");
    cr_expect_not(ref.is_default_tag);
}

LD_TEST(ref, refuses_what_docker_refuses)
{
    static const char *const bad[] = {
        "",
        ":",
        "@",
        "/",
        "a:",
        ":t",
        "a@",
        "a/",
        "/a",
        "a//b",
        "docker///docker",
        "a b",
        "a\tb",
        "https://github.com/docker/docker",
        "docker/Docker",
        "-docker",
        "-docker/docker",
        "-docker.io/docker/docker",
        "docker-/docker",
        "docker.io/docker.",
        "a..b",
        "a___b",
        "_a",
        "a_",
        "Debian",
        "DEBIAN:12",
        "a/B",
        "localhost:5000/App",
        "[::1]",
        "[::1",
        "[]/x",
        "[::g]/x",
        "[::1]x/y",
        "h:port/x",
        "h:/x",
        "h.-x/y",
        ".h/y",
        "x:-t",
        "x:.t",
        "x:t/",
        "x:a:b",
        "x:t!",
        "x@sha256:ff",
        "x@sha512:" HEX64,
        "x@sha256:" HEX64 "0",
        "x@sha256:FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF",
        "x@sha256:" HEX64 "@sha256:" HEX64,
        "@sha256:" HEX64,
        HEX64,
        "..",
        "../x",
        "./x",
        "a/../b",
        "\xc3\xa4",
        "x:\xc3\xa4",
        "docker.io/",
        "host.tld/",
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(bad); i++) {
        struct ld_err err = LD_ERR_INIT;
        struct ld_reference ref = {.name = "untouched"};

        cr_expect_eq(ld_reference_parse(bad[i], &ref, &err), -1, "'%s'", bad[i]);
        cr_expect_eq(err.code, LD_E_INVALID);
        cr_expect_str_eq(ref.name, "untouched");
    }
}

LD_TEST(ref, bounds_lengths)
{
    struct ld_err err = LD_ERR_INIT;
    struct ld_reference ref;
    char text[2000];

    /* docker.io/library/ is 18 bytes of the 255. */
    memset(text, 'a', sizeof(text));
    text[237] = '\0';
    ld_test_ok(ld_reference_parse(text, &ref, &err), &err);
    text[237] = 'a';
    text[238] = '\0';
    ld_test_fails(ld_reference_parse(text, &ref, &err), &err, LD_E_INVALID);
    text[238] = 'a';
    text[1999] = '\0';
    ld_test_fails(ld_reference_parse(text, &ref, &err), &err, LD_E_INVALID);

    memset(text, 'a', sizeof(text));
    text[1] = ':';
    text[2 + 128] = '\0';
    ld_test_ok(ld_reference_parse(text, &ref, &err), &err);
    text[2 + 128] = 'a';
    text[2 + 129] = '\0';
    ld_test_fails(ld_reference_parse(text, &ref, &err), &err, LD_E_INVALID);
}
