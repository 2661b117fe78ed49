/* A strict reader of OpenMetrics' text form, for counters, gauges, histograms and infos without
 * timestamps and exemplars: whatever the specification forbids of these is a problem. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct ld_exposition {
    struct ld_sample {
        char *series; /* as it is written: name{labels} */
        double value;
    } * samples;
    size_t n, cap;
    char *problem; /* of the first line that is wrong, or NULL */
};
void ld_exposition_read(const char *text, struct ld_exposition *ret);
void ld_exposition_done(struct ld_exposition *x);
/* -1: there is no such series. */
double ld_exposition_value(const struct ld_exposition *x, const char *series);
