/* Image references by Docker's rules: `debian` is `docker.io/library/debian:latest`.
 *
 *     reference  = name [":" tag] ["@" digest]
 *     name       = [domain "/"] path-component *["/" path-component]      at most 255 bytes
 *     domain     = host or "[" IPv6 "]", [":" port]; the first component is one when it holds "."
 * or
 *                  ":", is "localhost", or has an upper-case letter; else the domain is docker.io
 *
 * No state, no blocking, any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/digest.h"

struct ld_err;

enum {
    LD_REFERENCE_NAME_MAX = 255,
    LD_REFERENCE_TAG_MAX = 128,
    /* Whole reference with ":tag", "@sha256:…" and NUL. */
    LD_REFERENCE_TEXT = LD_REFERENCE_NAME_MAX + 1 + LD_REFERENCE_TAG_MAX + 1 + LD_DIGEST_TEXT,
};

/* A reference in its normal form. */
struct ld_reference {
    char name[LD_REFERENCE_NAME_MAX +
              1]; /* "docker.io/library/debian": the domain is always there */
    char tag[LD_REFERENCE_TAG_MAX +
             1];                 /* "latest" where neither tag nor digest was given; may be "" */
    char digest[LD_DIGEST_TEXT]; /* "sha256:…" or "" */
    bool is_default_tag;         /* the tag was not written, it was filled in */
};

/* Reads and normalizes a reference. LD_E_INVALID names what is wrong with it. 64 hex digits are an
 * id and never a name. */
int ld_reference_parse(const char *text, struct ld_reference *ret,
                       struct ld_err *err) ld_must_check;

/* The normal form "docker.io/library/debian:latest": the key in the records. */
void ld_reference_format(const struct ld_reference *ref, char text[LD_REFERENCE_TEXT]);

/* The short form "debian:latest" for people. Parsing it gives the same reference again: where
 * leaving out the domain would change the meaning ("docker.io/localhost/x"), it stays. */
void ld_reference_familiar(const struct ld_reference *ref, char text[LD_REFERENCE_TEXT]);
void ld_reference_familiar_name(const struct ld_reference *ref,
                                char text[LD_REFERENCE_NAME_MAX + 1]); /* no tag */

/* [A-Za-z0-9_][A-Za-z0-9_.-]{0,127} */
bool ld_reference_tag_is_valid(const char *tag);
