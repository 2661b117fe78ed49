/* base/parse.h: whole strings, ranges, units, names. */
#include <errno.h>

#include <criterion/criterion.h>

#include "daemon/base/parse.h"

Test(parse, refuses_what_is_not_a_whole_number)
{
    static const char *const bad[] = {"", " 1", "1 ", "+1", "-1", "12abc", "0x10"};
    uint64_t value = 7;

    for (size_t i = 0; i < LD_ARRAY_LEN(bad); i++)
        cr_expect_eq(ld_parse_u64(bad[i], 0, UINT64_MAX, &value), -EINVAL, "'%s'", bad[i]);
    cr_expect_eq(value, 7, "failure leaves the result alone");
    cr_expect_eq(ld_parse_u64("18446744073709551616", 0, UINT64_MAX, &value), -ERANGE);
    cr_expect_eq(ld_parse_u64("11", 0, 10, &value), -ERANGE);
    cr_assert_eq(ld_parse_u64("18446744073709551615", 0, UINT64_MAX, &value), 0);
    cr_expect_eq(value, UINT64_MAX);
}

Test(parse, reads_sizes_with_units)
{
    uint64_t value;

    cr_assert_eq(ld_parse_size("8M", &value), 0);
    cr_expect_eq(value, 8 << 20);
    cr_assert_eq(ld_parse_size("2GiB", &value), 0);
    cr_expect_eq(value, UINT64_C(2) << 30);
    cr_expect_eq(ld_parse_size("2X", &value), -EINVAL);
    cr_expect_eq(ld_parse_size("17179869184T", &value), -ERANGE);
}

Test(parse, knows_valid_names)
{
    char id[65];

    for (int i = 0; i < 64; i++)
        id[i] = 'a';
    id[64] = '\0';
    cr_expect(ld_name_is_valid("web-1.a_b"));
    cr_expect_not(ld_name_is_valid(""));
    cr_expect_not(ld_name_is_valid("-web"));
    cr_expect_not(ld_name_is_valid("Web"));
    cr_expect_not(ld_name_is_valid("a/b"));
    cr_expect_not(ld_name_is_valid(id), "64 hex digits are an id");
}

Test(parse, reads_times)
{
    int64_t t = -1;

    cr_assert_eq(ld_parse_time("1970-01-02T00:00:01Z", &t), 0);
    cr_expect_eq(t, 86401);
    cr_assert_eq(ld_parse_time("2026-11-25T10:15:30.123456789Z", &t), 0);
    cr_expect_eq(t, 1795601730);
    cr_assert_eq(ld_parse_time("2026-11-25T11:15:30+01:00", &t), 0);
    cr_expect_eq(t, 1795601730);
    cr_expect_eq(ld_parse_time("2026-13-25T11:15:30Z", &t), -EINVAL);
    cr_expect_eq(ld_parse_time("2026-11-25", &t), -EINVAL);
    cr_expect_eq(ld_parse_time("", &t), -EINVAL);
    cr_expect_eq(t, 1795601730, "failure leaves the result alone");
}
