/* Text for people: what comes from the server made safe to print, its width in columns, and sizes,
 * ages and durations in words. Pure functions; any thread. Results in `struct ld_text` are values.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/base/buf.h"
#include "daemon/base/cleanup.h"

struct ld_text {
    char text[48];
};

/* Appends s so that no terminal obeys it: control characters, bytes that are not UTF-8 and the
 * marks that turn writing direction become \n, \t, \xNN or \u{NNNN}. Printable text passes
 * unchanged. */
void ld_text_add_safe(struct ld_buf *buf, const char *s);
char *ld_text_safe(const char *s) __attribute__((returns_nonnull)); /* free it */

/* Appends JSON text with the same characters written as \uNNNN: the same document, safe on a
 * terminal. The argument is valid JSON, in which those characters stand inside strings only. */
void ld_text_add_safe_json(struct ld_buf *buf, const char *json, size_t len);

/* Columns on a terminal: wide characters count two, combining ones none. s is printable UTF-8. */
size_t ld_text_width(const char *s);
/* Appends as much of s as fits into `columns`, ending with "…" where something is left out. */
void ld_text_add_cut(struct ld_buf *buf, const char *s, size_t columns);
/* The last columns instead of the first: the end of a path says more than its start. */
void ld_text_add_cut_left(struct ld_buf *buf, const char *s, size_t columns);

struct ld_text ld_text_size(uint64_t bytes); /* "0 B", "4.2 KiB", "180 MiB" */
struct ld_text ld_text_count(uint64_t n, const char *one, const char *many); /* "1 layer" */
struct ld_text ld_text_age(int64_t then, int64_t now); /* "3 minutes ago", seconds since 1970 */
struct ld_text ld_text_duration(uint64_t seconds);     /* "0:07", "12:34", "1:02:03" */

/* The first 12 digits of an id or digest, without "sha256:". */
struct ld_text ld_text_short_id(const char *id);

/* "2026-11-25T10:15:30Z" of a time with a fraction; anything else as it is, as far as it fits. */
struct ld_text ld_text_whole_seconds(const char *time);

/* The bytes that base64 text stands for (a NUL is added by the buffer). 0 or -EINVAL. */
int ld_text_decode_base64(const char *s, struct ld_buf *ret) ld_must_check;

/* Edit distance with swapped neighbours counted once; anything above `limit` is limit + 1. For
 * suggestions: words longer than 63 bytes are always too far. */
unsigned ld_text_distance(const char *a, const char *b, unsigned limit);
