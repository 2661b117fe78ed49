/* Command lines: options described by tables, parsed into values. Pure; any thread.
 *
 * GNU rules: options and operands in any order, `--` ends the options, `-n VALUE`, `-nVALUE`,
 * `--name VALUE`, `--name=VALUE`, single-letter flags joined. A lone `-` is an operand.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "daemon/base/cleanup.h"

struct ld_err;

struct ld_opt {
    const char *name;  /* long name without dashes */
    char letter;       /* or 0 */
    const char *value; /* what the value is called in help; NULL: a flag */
    bool many;         /* may be given several times; otherwise the last one counts */
    const char *help;
    const char
        *complete; /* kind of object completed by the shell ("container", "file", …), or a list
                      of words "a|b|c" (any other value is then a usage error); or NULL */
};

struct ld_opts {
    const struct ld_opt *opt;
    size_t n;
};

struct ld_args;

/* Values for two tables: a command's own options, which win, and those that every command has. The
 * tables and later argv are borrowed for as long as the result lives. */
struct ld_args *ld_args_new(struct ld_opts own, struct ld_opts common)
    __attribute__((returns_nonnull));
/* Adds what argv[0..argc) says. LD_E_INVALID with a hint that names what was probably meant. */
int ld_args_parse(struct ld_args *args, int argc, const char *const *argv,
                  struct ld_err *err) ld_must_check;
/* The first operand ends the options: all that follows are operands as they are. */
int ld_args_parse_head(struct ld_args *args, int argc, const char *const *argv,
                       struct ld_err *err) ld_must_check;
/* The same up to the first operand; *ret_used is its index, or argc. */
int ld_args_parse_until_operand(struct ld_args *args, int argc, const char *const *argv,
                                int *ret_used, struct ld_err *err) ld_must_check;
void ld_args_free_p(struct ld_args **args);

#define autoargs LD_AUTO(ld_args_free_p)

/* The values; asking for an option that is in no table is our bug (assert). */
bool ld_args_flag(const struct ld_args *args, const char *name);
const char *ld_args_value(const struct ld_args *args, const char *name); /* the last one, or NULL */
/* The nth value of an option that may repeat, NULL after the last. */
const char *ld_args_nth(const struct ld_args *args, const char *name, size_t n);

size_t ld_args_count(const struct ld_args *args);              /* operands */
const char *ld_args_get(const struct ld_args *args, size_t i); /* NULL after the last */
