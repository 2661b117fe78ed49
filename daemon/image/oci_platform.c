/* Platforms: see oci.h. What runs where follows containerd's platforms package. */
#include "daemon/image/oci.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "daemon/base/parse.h"

static const struct {
    const char *machine; /* of uname */
    const char *arch;    /* of Go */
    const char *variant;
} machines[] = {
    {"x86_64", "amd64", ""},    {"aarch64", "arm64", "v8"},
    {"armv8l", "arm", "v7"},    {"armv7l", "arm", "v7"},
    {"armv6l", "arm", "v6"},    {"armv5tel", "arm", "v5"},
    {"i386", "386", ""},        {"i486", "386", ""},
    {"i586", "386", ""},        {"i686", "386", ""},
    {"ppc64le", "ppc64le", ""}, {"s390x", "s390x", ""},
    {"riscv64", "riscv64", ""}, {"loongarch64", "loong64", ""},
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    {"mips64", "mips64le", ""}, {"mips", "mipsle", ""},
#endif
};

static void set(char *to, size_t size, const char *text)
{
    (void)snprintf(to, size, "%s", text); /* from our table, or cut: an unknown machine */
}

void ld_oci_platform_of(const char *machine, struct ld_oci_platform *ret)
{
    *ret = (struct ld_oci_platform){.os = "linux"};
    for (size_t i = 0; i < LD_ARRAY_LEN(machines); i++) {
        if (strcmp(machine, machines[i].machine) == 0) {
            set(ret->arch, sizeof(ret->arch), machines[i].arch);
            set(ret->variant, sizeof(ret->variant), machines[i].variant);
            return;
        }
    }
    set(ret->arch, sizeof(ret->arch), machine);
}

void ld_oci_platform_of_host(struct ld_oci_platform *ret)
{
    struct utsname uts;

    (void)uname(&uts); /* fails for a bad pointer only */
    ld_oci_platform_of(uts.machine, ret);
}

/* "v7" is 7; no variant and what is none of ours is 0. */
static int variant_number(const char *variant)
{
    int n = 0;

    if (variant[0] == 'v' && ld_parse_int(variant + 1, 0, 99, &n) == 0)
        return n;
    return 0;
}

/* An arm image without variant is v7; an arm64 one v8; amd64 has levels of which v1 is the base. */
static int image_variant(const struct ld_oci_platform *p)
{
    if (p->variant[0])
        return variant_number(p->variant);
    return strcmp(p->arch, "arm") == 0 ? 7 : strcmp(p->arch, "arm64") == 0 ? 8 : 1;
}

int ld_oci_platform_rank(const struct ld_oci_platform *host, const struct ld_oci_platform *image)
{
    int variant = image_variant(image);

    if (strcmp(host->os, image->os) != 0)
        return 0;
    if (strcmp(host->arch, image->arch) == 0) {
        /* Arm runs what is not above it, the highest first. Elsewhere the plainest is the safest.
         */
        if (strcmp(host->arch, "arm") == 0)
            return variant <= image_variant(host) ? 100 + variant : 0;
        if (strcmp(host->arch, "arm64") == 0)
            return variant == 8 ? 200 : 200 - variant;
        return 200 - variant;
    }
    if (strcmp(host->arch, "amd64") == 0 && strcmp(image->arch, "386") == 0)
        return 50;
    if (strcmp(host->arch, "arm64") == 0 && strcmp(image->arch, "arm") == 0)
        return variant <= 8 ? 10 + variant : 0;
    return 0;
}

void ld_oci_platform_format(const struct ld_oci_platform *p, char text[LD_OCI_PLATFORM_TEXT])
{
    (void)snprintf(text, LD_OCI_PLATFORM_TEXT, "%s/%s%s%s", p->os[0] ? p->os : "unknown",
                   p->arch[0] ? p->arch : "unknown", p->variant[0] ? "/" : "", p->variant);
}
