/* client/table.h and client/progress.h: what stands where. */
#include <string.h>

#include <criterion/criterion.h>

#include "client/progress.h"
#include "client/table.h"
#include "client/text.h"

static const struct ld_column columns[] = {
    {"NAME", .shrinks = true},
    {"SIZE", .right = true},
    {"STATE"},
};

static struct ld_table *sample(void)
{
    static const char *const cells[] = {"größe", "4.2 KiB", "ok", "a\033b", NULL, "damaged"};
    struct ld_table *t = ld_table_new(columns, LD_ARRAY_LEN(columns));

    for (size_t i = 0; i < LD_ARRAY_LEN(cells); i++)
        ld_table_add(t, cells[i]);
    return t;
}

Test(client_table, aligns_by_columns_of_the_terminal)
{
    autotable struct ld_table *t = sample();
    autobuf struct ld_buf buf = LD_BUF_INIT(4096);

    ld_table_render(t, 0, false, &buf);
    cr_expect_str_eq(ld_buf_str(&buf), "NAME       SIZE  STATE\n"
                                       "größe   4.2 KiB  ok\n"
                                       "a\\x1bb        -  damaged\n");
    cr_expect_eq(ld_table_rows(t), 2);
}

Test(client_table, is_cut_to_the_terminal)
{
    autotable struct ld_table *t = ld_table_new(columns, LD_ARRAY_LEN(columns));
    autobuf struct ld_buf buf = LD_BUF_INIT(4096);

    ld_table_add(t, "a-name-that-is-much-too-long");
    ld_table_add(t, "1 B");
    ld_table_add(t, "ok");
    ld_table_render(t, 24, false, &buf);
    cr_expect_str_eq(ld_buf_str(&buf), "NAME         SIZE  STATE\n"
                                       "a-name-tha…   1 B  ok\n");
}

Test(client_table, without_rows_is_its_titles)
{
    autotable struct ld_table *t = ld_table_new(columns, LD_ARRAY_LEN(columns));
    autobuf struct ld_buf buf = LD_BUF_INIT(4096);

    ld_table_render(t, 0, false, &buf);
    cr_expect_str_eq(ld_buf_str(&buf), "NAME  SIZE  STATE\n");
}

Test(client_table, has_colours_only_when_asked)
{
    autotable struct ld_table *t = ld_table_new(columns, LD_ARRAY_LEN(columns));
    autobuf struct ld_buf plain = LD_BUF_INIT(4096);
    autobuf struct ld_buf bright = LD_BUF_INIT(4096);

    ld_table_add(t, "web");
    ld_table_add(t, "1 B");
    ld_table_add_styled(t, "mounted", LD_STYLE_GOOD);
    ld_table_render(t, 0, false, &plain);
    ld_table_render(t, 0, true, &bright);
    cr_expect_null(strchr(ld_buf_str(&plain), '\033'));
    cr_expect_not_null(strstr(ld_buf_str(&bright), "\033[32mmounted\033[0m"));
}

Test(client_progress, measures_the_rate)
{
    struct ld_rate rate = {0};
    uint64_t eta = 0;

    cr_expect_not(ld_rate_eta(&rate, 100, &eta), "nothing is known yet");
    for (uint64_t ms = 0; ms <= 4000; ms += 100)
        ld_rate_add(&rate, ms * 1000, ms);
    cr_expect_float_eq(rate.per_second, 1000000, 1);
    cr_assert(ld_rate_eta(&rate, 5000000, &eta));
    cr_expect_eq(eta, 5);
    /* A stall is noticed within seconds, not after as long as the work took so far. */
    for (uint64_t ms = 4300; ms <= 14000; ms += 300)
        ld_rate_add(&rate, 4000000, ms);
    cr_expect_lt(rate.per_second, 50000);
    cr_expect_not(ld_rate_eta(&rate, UINT64_MAX, &eta), "nobody waits for that");
}

Test(client_progress, begins_anew_when_it_goes_backwards)
{
    struct ld_rate rate = {0};

    ld_rate_add(&rate, 1000, 0);
    ld_rate_add(&rate, 2000, 1000);
    ld_rate_add(&rate, 10, 2000);
    cr_expect_eq(rate.per_second, 0);
}

Test(client_progress, shows_a_bar_where_it_fits)
{
    struct ld_progress_row row = {
        .what = "debian.tar send",
        .current = UINT64_C(90) << 20,
        .total = UINT64_C(180) << 20,
        .rate = {.per_second = 45 << 20, .started = true},
    };

    for (size_t width = 0; width < 120; width++) {
        autobuf struct ld_buf line = LD_BUF_INIT(4096);

        ld_progress_line(&row, width, &line);
        cr_expect_leq(ld_text_width(ld_buf_str(&line)), width);
        if (width >= 78)
            cr_expect_not_null(strstr(ld_buf_str(&line), "] "));
    }
    {
        autobuf struct ld_buf line = LD_BUF_INIT(4096);

        ld_progress_line(&row, 100, &line);
        cr_expect_str_eq(
            ld_buf_str(&line),
            "debian.tar send       [================>               ]  50%  90 MiB / 180 "
            "MiB  45 MiB/s  0:02 left");
    }
}

Test(client_progress, without_a_total_has_neither_bar_nor_end)
{
    struct ld_progress_row row = {.what = "archive", .current = 5 << 20};
    autobuf struct ld_buf line = LD_BUF_INIT(4096);

    ld_progress_line(&row, 100, &line);
    cr_expect_str_eq(ld_buf_str(&line), "archive               5.0 MiB");
}
