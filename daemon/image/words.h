/* The words of a Dockerfile line as Docker reads them: quotes, backslashes, variables. No state,
 * any thread. */
#pragma once

#include <stddef.h>

#include "daemon/base/cleanup.h"

struct ld_err;

enum {
    LD_WORDS_MAX = 64 << 10, /* bytes of one expanded word */
    LD_WORDS_DEPTH = 8,      /* of ${a:-${b:-…}} */
};

/* Words between blanks, quotes and backslashes still in them, as a NULL-terminated array (free with
 * ld_strv_free_p). */
char **ld_words_split(const char *text);

/* The value of a variable, borrowed until the next call; NULL: not set. */
typedef const char *(*ld_words_get_fn)(void *arg, const char *name, size_t len);

/* Without quotes and backslashes, variables replaced: $a, ${a}, ${a:-word}, ${a-word}, ${a:+word},
 * ${a+word}. invalid: an open quote or brace, another form, longer than LD_WORDS_MAX. */
int ld_words_expand(const char *text, ld_words_get_fn get, void *arg, char **ret,
                    struct ld_err *err) ld_must_check;
