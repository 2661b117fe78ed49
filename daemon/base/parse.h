/* Text from outside into values: the whole string, range checked, no leading blanks or signs.
 * All return 0 or -EINVAL (malformed) or -ERANGE (out of range); the result is written on success
 * only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/cleanup.h"

int ld_parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *ret) ld_must_check;
int ld_parse_int(const char *s, int min, int max,
                 int *ret) ld_must_check; /* '-' allowed if min < 0 */
int ld_parse_octal(const char *s, uint64_t max, uint64_t *ret) ld_must_check;
int ld_parse_bool(const char *s, bool *ret) ld_must_check;     /* 1 true yes on 0 false no off */
int ld_parse_size(const char *s, uint64_t *ret) ld_must_check; /* 10, 10K, 1.5 no; K M G T = 1024 */
int ld_parse_seconds(const char *s, uint64_t *ret_ms) ld_must_check; /* 30s 5m 24h 7d 250ms */
/* RFC 3339 with any offset into seconds since 1970; a fraction is ignored. */
int ld_parse_time(const char *s, int64_t *ret_seconds) ld_must_check;

/* Object names: [a-z0-9][a-z0-9_.-]*, 1 to 128 bytes, and not 64 hex digits (those are ids). */
bool ld_name_is_valid(const char *name);
/* n lower-case hex digits and nothing else. */
bool ld_is_hex(const char *s, size_t n);
/* Shell-style glob: * ? [a-z] (fnmatch without flags). */
bool ld_glob_matches(const char *glob, const char *text);
