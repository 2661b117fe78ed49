/* Completion in the shell: the words that may follow. One thread; asks the daemon for names,
 * silently. */
#pragma once

#include <stddef.h>

#include "client/cli.h"

/* words[0..n) is the command line after "layerctl" up to and with the word under the cursor, which
 * may be "". Prints candidates, one per line. */
void ld_complete(struct ld_cli *cli, size_t n, const char *const *words);
