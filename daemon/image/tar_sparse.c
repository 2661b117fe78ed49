/* Sparse maps in the forms GNU tar has had: see tar_impl.h. No state, any thread. */
#include "daemon/image/tar_impl.h"

#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/base/parse.h"

enum {
    HEADER_MAP = 386, /* 4 pairs of 12 bytes each in the header */
    HEADER_PAIRS = 4,
    HEADER_MORE = 482,
    EXTENSION_PAIRS = 21, /* an extension block is nothing but pairs and the flag */
    EXTENSION_MORE = 504,
};

static int malformed(struct ld_err *err)
{
    return ld_err_set(err, LD_E_BAD_CONTENT, "its map of holes is malformed");
}

int ld_tar_map_add(struct ld_tar_map *map, uint64_t offset, uint64_t len, struct ld_err *err)
{
    if (map->n >= LD_TAR_MAX_SEGMENTS)
        return ld_err_over_limit(err, "max_segments", LD_TAR_MAX_SEGMENTS,
                                 "its map of holes has more than %d parts", LD_TAR_MAX_SEGMENTS);
    ld_grow(&map->segments, &map->cap, map->n + 1, sizeof(*map->segments));
    map->segments[map->n++] = (struct ld_tar_segment){offset, len};
    return 0;
}

int ld_tar_map_add_block(struct ld_tar_map *map, const uint8_t *block, bool is_header,
                         bool *ret_more, struct ld_err *err)
{
    const uint8_t *pair = block + (is_header ? HEADER_MAP : 0);
    int n = is_header ? HEADER_PAIRS : EXTENSION_PAIRS;

    for (int i = 0; i < n && pair[0] != '\0'; i++, pair += 24) {
        int64_t offset, len;

        if (ld_tar_number(pair, 12, &offset) < 0 || ld_tar_number(pair + 12, 12, &len) < 0 ||
            offset < 0 || len < 0)
            return malformed(err);
        if (ld_tar_map_add(map, (uint64_t)offset, (uint64_t)len, err) < 0)
            return -1;
    }
    *ret_more = block[is_header ? HEADER_MORE : EXTENSION_MORE] != 0;
    return 0;
}

int ld_tar_map_add_text(struct ld_tar_map *map, char *text, struct ld_err *err)
{
    char *rest = text;

    while (rest && *rest) {
        const char *first = strsep(&rest, ",");
        const char *second = strsep(&rest, ",");
        uint64_t offset, len;

        if (!second || ld_parse_u64(first, 0, INT64_MAX, &offset) < 0 ||
            ld_parse_u64(second, 0, INT64_MAX, &len) < 0)
            return malformed(err);
        if (ld_tar_map_add(map, offset, len, err) < 0)
            return -1;
    }
    return 0;
}

int ld_tar_map_check(struct ld_tar_map *map, uint64_t file_size, uint64_t stored,
                     struct ld_err *err)
{
    uint64_t end = 0, sum = 0;
    size_t n = 0;

    /* Every number is at most INT64_MAX and every segment ends inside the file: sums cannot wrap.
     */
    for (size_t i = 0; i < map->n; i++) {
        struct ld_tar_segment s = map->segments[i];

        if (s.offset < end || s.offset > file_size || s.len > file_size - s.offset)
            return malformed(err);
        end = s.offset + s.len;
        sum += s.len;
        if (s.len > 0)
            map->segments[n++] = s;
    }
    map->n = n;
    if (sum != stored)
        return ld_err_set(err, LD_E_BAD_CONTENT,
                          "its map of holes does not agree with the size of its data");
    return 0;
}
