/* untar-tool DIR LAYER.tar…: makes a chain of layers in DIR as the daemon does, bottom first, each
 * tar compressed or not, and prints what it made. For trying archives by hand, and for scripts.
 *
 *   -r        write each layer's tar again from its recipe and compare the digests
 *   -s        sync the file system once at the end and tell how long everything took
 *   -m WHERE  mount the chain read-only by overlay
 *   -e        the kernel shows escaped xattrs (see untar.h)
 *
 * DIR is made when it is missing, else it has to be empty. Exit code: 0, 1 (a layer was refused;
 * what was made before it is there), 2 (wrong use).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"
#include "daemon/image/codec.h"
#include "tests/lib/stack.h"

struct options {
    bool replay, sync;
    const char *mount_at;
};

static double now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int fail(const char *what, const struct ld_err *err)
{
    (void)fprintf(stderr, "untar-tool: %s: %s: %s%s%s\n", what, ld_code_name(err->code),
                  err->message, err->details[0] ? " " : "", err->details);
    return 1;
}

static void tell(const char *file, const struct ld_test_stack *stack, const struct ld_digest *chain)
{
    char diff_text[LD_DIGEST_TEXT], chain_text[LD_DIGEST_TEXT];
    const struct ld_untar_result *u = &stack->untarred;
    const struct ld_settle_result *s = &stack->settled;

    ld_digest_format(&stack->diff_id[stack->n - 1], diff_text);
    ld_digest_format(chain, chain_text);
    (void)printf("layer %zu: %s\n  diff %s\n  chain %s\n", stack->n, file, diff_text, chain_text);
    (void)printf("  %" PRIu64 " entries, %" PRIu64 " bytes of tar, %" PRIu64 " of content, %" PRIu64
                 " inodes, %" PRIu64 " bytes on disk%s\n",
                 u->entries, u->tar_bytes, u->bytes, s->inodes, s->bytes,
                 s->has_aside ? ", some content aside" : "");
    for (size_t i = 0; i < u->warnings.n; i++)
        (void)printf("  warning: %s\n", u->warnings.text[i]);
    for (size_t i = 0; i < s->warnings.n; i++)
        (void)printf("  warning: %s\n", s->warnings.text[i]);
}

static int add(struct ld_test_stack *stack, const char *file, struct ld_digest *chain)
{
    autoclose int fd = open(file, O_RDONLY | O_CLOEXEC);
    struct ld_codec_limits limits = {.max_window = UINT64_C(128) << 20};
    struct ld_err err = LD_ERR_INIT;
    auto_source *blob = NULL;
    auto_source *tar = NULL;

    if (fd < 0) {
        (void)ld_err_sys(&err, -errno, "open");
        return fail(file, &err);
    }
    blob = ld_source_fd_new(fd, 0, LD_TO_END);
    if (ld_decoder_new(blob, &limits, &tar, &err) < 0 || ld_test_stack_add(stack, tar, &err) < 0)
        return fail(file, &err);
    *chain = ld_chain_id(stack->n > 1 ? chain : NULL, &stack->diff_id[stack->n - 1]);
    tell(file, stack, chain);
    return 0;
}

static int replay_all(const struct ld_test_stack *stack)
{
    for (size_t i = 1; i <= stack->n; i++) {
        struct ld_digest again;
        struct ld_err err = LD_ERR_INIT;

        if (ld_test_stack_replay(stack, i, &again, &err) < 0)
            return fail("recipe", &err);
        if (!ld_digest_equal(&again, &stack->diff_id[i - 1])) {
            (void)fprintf(stderr, "untar-tool: the recipe of layer %zu writes another tar\n", i);
            return 1;
        }
    }
    (void)printf("all recipes write their tar again\n");
    return 0;
}

static int run(struct ld_test_stack *stack, char **files, int n, const struct options *o)
{
    double start = now();
    struct ld_digest chain = {.bytes = {0}};
    int r = 0;

    for (int i = 0; i < n && r == 0; i++)
        r = add(stack, files[i], &chain);
    if (r == 0 && o->sync) {
        double unpacked = now();

        r = ld_syncfs(stack->dir) < 0;
        (void)printf("unpacked and settled in %.3f s, synced in %.3f s\n", unpacked - start,
                     now() - unpacked);
    }
    if (r == 0 && o->replay)
        r = replay_all(stack);
    if (r == 0 && o->mount_at && (r = -ld_test_stack_mount(stack, o->mount_at)) > 0)
        (void)fprintf(stderr, "untar-tool: mount: %s\n", strerror(r));
    return r != 0;
}

int main(int argc, char **argv)
{
    autofree struct ld_test_stack *stack = ld_new(struct ld_test_stack);
    struct options o = {.replay = false};
    bool escapes = false;
    int c, dir, r;

    while ((c = getopt(argc, argv, "rsem:")) >= 0) {
        o.replay = o.replay || c == 'r';
        o.sync = o.sync || c == 's';
        escapes = escapes || c == 'e';
        if (c == 'm')
            o.mount_at = optarg;
        if (c == '?')
            return 2;
    }
    if (argc - optind < 2) {
        (void)fprintf(stderr, "usage: untar-tool [-rse] [-m WHERE] DIR LAYER.tar...\n");
        return 2;
    }
    (void)mkdir(argv[optind], 0700); /* it may be there */
    dir = open(argv[optind], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        (void)fprintf(stderr, "untar-tool: %s: %s\n", argv[optind], strerror(errno));
        return 2;
    }
    ld_test_stack_init(stack, dir);
    stack->escapes_xattrs = escapes;
    r = run(stack, argv + optind + 1, argc - optind - 1, &o);
    ld_test_stack_done(stack);
    return r;
}
