/* client/text.h: safe to print, as wide as it looks, readable. */
#include <errno.h>
#include <string.h>

#include <criterion/criterion.h>

#include "client/text.h"

Test(client_text, escapes_what_a_terminal_would_obey)
{
    static const struct {
        const char *raw, *safe;
    } cases[] = {
        {"plain", "plain"},
        {"größe 日本", "größe 日本"},
        {"\033[2Jgone", "\\x1b[2Jgone"},
        {"a\nb\tc\r", "a\\nb\\tc\\x0d"},
        {"\xC2\x9B"
         "31m",
         "\\u{9b}31m"},
        {"\xE2\x80\xAE"
         "gpj.exe",
         "\\u{202e}gpj.exe"},
        {"bad \xFF\xC3", "bad \\xff\\xc3"},
        {"over\xC0\xAFlong", "over\\xc0\\xaflong"},
        {"\xED\xA0\x80", "\\xed\\xa0\\x80"},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(cases); i++) {
        autofree char *safe = ld_text_safe(cases[i].raw);

        cr_expect_str_eq(safe, cases[i].safe);
    }
}

Test(client_text, json_stays_the_same_document)
{
    autobuf struct ld_buf buf = LD_BUF_INIT(1024);
    static const char json[] = "{\"a\":\"x\xC2\x9B"
                               "y\x7F\",\n\"b\":\"ö\"}";

    ld_text_add_safe_json(&buf, json, sizeof(json) - 1);
    cr_expect_str_eq(ld_buf_str(&buf), "{\"a\":\"x\\u009by\\u007f\",\n\"b\":\"ö\"}");
}

Test(client_text, measures_columns)
{
    cr_expect_eq(ld_text_width("abc"), 3);
    cr_expect_eq(ld_text_width("größe"), 5);
    cr_expect_eq(ld_text_width("日本"), 4);
    cr_expect_eq(ld_text_width("e\xCC\x81"), 1, "a combining accent takes no column");
}

Test(client_text, cuts_to_columns)
{
    static const struct {
        const char *text;
        size_t columns;
        const char *cut;
    } cases[] = {
        {"abcdef", 6, "abcdef"}, {"abcdef", 4, "abc…"}, {"日本語", 4, "日…"},
        {"abc", 1, "…"},         {"abc", 0, ""},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(cases); i++) {
        autobuf struct ld_buf buf = LD_BUF_INIT(64);

        ld_text_add_cut(&buf, cases[i].text, cases[i].columns);
        cr_expect_str_eq(ld_buf_str(&buf), cases[i].cut);
    }
}

Test(client_text, tells_sizes)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {
        {0, "0 B"},
        {1023, "1023 B"},
        {1024, "1.0 KiB"},
        {4300, "4.2 KiB"},
        {10 * 1024, "10 KiB"},
        {1048575, "1.0 MiB"},
        {UINT64_C(180) << 20, "180 MiB"},
        {UINT64_MAX, "16 EiB"},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(cases); i++)
        cr_expect_str_eq(ld_text_size(cases[i].bytes).text, cases[i].text);
}

Test(client_text, tells_ages)
{
    static const struct {
        int64_t age;
        const char *text;
    } cases[] = {
        {0, "just now"},
        {1, "1 second ago"},
        {119, "119 seconds ago"},
        {120, "2 minutes ago"},
        {7200, "2 hours ago"},
        {86400 * 3, "3 days ago"},
        {86400 * 20, "2 weeks ago"},
        {86400 * 90, "3 months ago"},
        {86400 * 800, "2 years ago"},
        {-300, "in 5 minutes"},
    };

    for (size_t i = 0; i < LD_ARRAY_LEN(cases); i++)
        cr_expect_str_eq(ld_text_age(1000000000 - cases[i].age, 1000000000).text, cases[i].text);
    cr_expect_str_eq(ld_text_age(INT64_MIN, INT64_MAX).text, "?");
}

Test(client_text, leaves_fractions_of_seconds_out)
{
    cr_expect_str_eq(ld_text_whole_seconds("2026-11-25T10:15:30.123456789Z").text,
                     "2026-11-25T10:15:30Z");
    cr_expect_str_eq(ld_text_whole_seconds("2026-11-25T10:15:30Z").text, "2026-11-25T10:15:30Z");
    cr_expect_str_eq(ld_text_whole_seconds("").text, "");
}

Test(client_text, decodes_base64)
{
    autobuf struct ld_buf buf = LD_BUF_INIT(64);

    cr_assert_eq(ld_text_decode_base64("aGVsbG8=", &buf), 0);
    cr_expect_str_eq(ld_buf_str(&buf), "hello");
    cr_expect_eq(ld_text_decode_base64("a*b", &buf), -EINVAL);
    cr_expect_eq(ld_text_decode_base64("YQ==x", &buf), -EINVAL);
}

Test(client_text, knows_how_far_words_are_apart)
{
    cr_expect_eq(ld_text_distance("create", "create", 2), 0);
    cr_expect_eq(ld_text_distance("crate", "create", 2), 1);
    cr_expect_eq(ld_text_distance("craete", "create", 2), 1, "swapped neighbours are one slip");
    cr_expect_eq(ld_text_distance("ps", "images", 2), 3);
    cr_expect_eq(ld_text_distance("", "rm", 2), 2);
}
