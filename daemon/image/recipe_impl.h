/* The form of a recipe file, shared by recipe.c (writing) and replay.c (reading).
 *
 *   16 bytes   "layerd-recipe 1\n"
 *   frame 1    zstd: records, each a varint (length << 2 | kind), then
 *                LITERAL  `length` bytes of the tar
 *                FILE     `length` bytes: the path that the following DATA records mean
 *                DATA     varint offset; `length` bytes of that file from there
 *                ZEROS    nothing: `length` zero bytes of the tar
 *   frame 2    zstd: moves, each: varint number of FILE records before it, varint N, varint length,
 * path 32 bytes   little-endian: offset of frame 2, bytes of frame 2, bytes of the tar,
 * "layerd\r\n"
 *
 * Both frames carry zstd's checksum. varint: 7 bits per byte, lowest first, bit 7: more follow.
 */
#pragma once

#include <stdint.h>

enum ld_recipe_kind { LD_RECIPE_LITERAL, LD_RECIPE_FILE, LD_RECIPE_DATA, LD_RECIPE_ZEROS };

enum {
    LD_RECIPE_HEAD = 16,
    LD_RECIPE_FOOT = 32,
    LD_RECIPE_VARINT = 10, /* bytes of the longest */
    LD_RECIPE_MAX_PATH = 4095,
    LD_RECIPE_MAX_MOVES = 16 << 20, /* bytes of frame 2, decompressed */
};

#define LD_RECIPE_MAGIC "layerd-recipe 1\n"
#define LD_RECIPE_END   "layerd\r\n"
