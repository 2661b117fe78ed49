/* Files and changes as JSON: see file_json.h. */
#include "api/file_json.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cjson/cJSON.h>

#include "api/json.h"
#include "daemon/base/tree_diff.h"
#include "daemon/core/files.h"

void ld_json_add_file(cJSON *object, const struct ld_file_info *info)
{
    const struct stat *st = &info->st;
    char mode[8] = {(char)('0' + (st->st_mode >> 9 & 7)), (char)('0' + (st->st_mode >> 6 & 7)),
                    (char)('0' + (st->st_mode >> 3 & 7)), (char)('0' + (st->st_mode & 7)), '\0'};

    cJSON_AddStringToObject(object, "type", ld_json_file_type(st->st_mode));
    cJSON_AddStringToObject(object, "mode", mode);
    cJSON_AddItemToObject(object, "uid", ld_json_u64(st->st_uid));
    cJSON_AddItemToObject(object, "gid", ld_json_u64(st->st_gid));
    cJSON_AddItemToObject(object, "size", ld_json_u64((uint64_t)st->st_size));
    cJSON_AddItemToObject(object, "mtime", ld_json_timespec(&st->st_mtim));
    if (info->target)
        ld_json_add_bytes(object, "target", info->target);
    if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) {
        cJSON *device = cJSON_AddObjectToObject(object, "device");

        cJSON_AddItemToObject(device, "major", ld_json_u64(major(st->st_rdev)));
        cJSON_AddItemToObject(device, "minor", ld_json_u64(minor(st->st_rdev)));
    }
}

static const char *change_kind(enum ld_change_kind kind)
{
    switch (kind) {
    case LD_CHANGE_ADDED:
        return "added";
    case LD_CHANGE_MODIFIED:
        return "modified";
    case LD_CHANGE_DELETED:
        break;
    }
    return "deleted";
}

cJSON *ld_change_json(const struct ld_change *change)
{
    bool is_file = S_ISREG(change->st->st_mode);
    cJSON *json = cJSON_CreateObject();

    ld_json_add_bytes(json, "path", change->path);
    cJSON_AddStringToObject(json, "kind", change_kind(change->kind));
    cJSON_AddStringToObject(json, "type", ld_json_file_type(change->st->st_mode));
    cJSON_AddItemToObject(json, "size", ld_json_u64(is_file ? (uint64_t)change->st->st_size : 0));
    return json;
}
