/* treedump [-t] [-x] DIR: the canonical text of a tree (tests/lib/treedump.h) on standard output.
 * -t: without the times of directories; -x: with trusted.overlay.* xattrs. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/treedump.h"

int main(int argc, char **argv)
{
    char at[256] = "";
    unsigned flags = 0;
    size_t len;
    int c, r;

    while ((c = getopt(argc, argv, "tx")) != -1) {
        if (c == '?')
            return 2;
        flags |= c == 't' ? LD_DUMP_NO_DIR_TIMES : LD_DUMP_OVERLAY_XATTRS;
    }
    if (optind + 1 != argc) {
        (void)fprintf(stderr, "usage: treedump [-t] [-x] DIR\n");
        return 2;
    }
    len = strlen(argv[optind]);
    while (len > 1 && argv[optind][len - 1] == '/')
        argv[optind][--len] = '\0';
    r = ld_dump_tree(argv[optind], flags, stdout, at);
    if (r < 0 || fflush(stdout) != 0) {
        (void)fprintf(stderr, "treedump: '%s': %s\n", at, strerror(-r));
        return 1;
    }
    return 0;
}
