/* What -v, --mount and --tmpfs mean, as the API's mount objects. No network; a relative source path
 * is resolved against the working directory. */
#pragma once

#include <cjson/cJSON.h>

struct ld_err;

/* TARGET (anonymous volume), NAME:TARGET[:ro|rw] or /PATH:TARGET[:ro|rw]; ./PATH and ../PATH are
 * paths, too. */
int ld_mount_from_volume(const char *text, cJSON *mounts, struct ld_err *err);
/* type=volume|bind|tmpfs,source=…,target=…[,readonly][,subpath=…][,size=…], with Docker's synonyms.
 */
int ld_mount_from_long(const char *text, cJSON *mounts, struct ld_err *err);
/* TARGET[:size=SIZE][,ro] */
int ld_mount_from_tmpfs(const char *text, cJSON *mounts, struct ld_err *err);

/* All three options of a command, which has them, as the body's "mounts". */
struct ld_args;
int ld_mounts_from_args(const struct ld_args *args, cJSON *body, struct ld_err *err);
