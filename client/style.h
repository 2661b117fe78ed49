/* Colours by meaning. Whether they are used is decided once per stream (see out.h). */
#pragma once

#include <stdbool.h>

enum ld_style {
    LD_STYLE_PLAIN,
    LD_STYLE_HEAD,  /* titles */
    LD_STYLE_GOOD,  /* added, mounted */
    LD_STYLE_CARE,  /* changed, busy, hints */
    LD_STYLE_BAD,   /* deleted, damaged, errors */
    LD_STYLE_FAINT, /* what matters less */
};

/* The escape sequence that begins (or, for PLAIN, ends) a style. */
static inline const char *ld_style_code(enum ld_style style)
{
    switch (style) {
    case LD_STYLE_HEAD:
        return "\033[1m";
    case LD_STYLE_GOOD:
        return "\033[32m";
    case LD_STYLE_CARE:
        return "\033[33m";
    case LD_STYLE_BAD:
        return "\033[31m";
    case LD_STYLE_FAINT:
        return "\033[2m";
    case LD_STYLE_PLAIN:
        break;
    }
    return "\033[0m";
}
