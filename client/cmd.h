/* The commands, one group per file cmd_*.c. Constant. */
#pragma once

#include "client/cli.h"

extern const struct ld_cmd_group ld_cmds_image;
extern const struct ld_cmd_group ld_cmds_container;
extern const struct ld_cmd_group ld_cmds_files;  /* also "container …": what is in one */
extern const struct ld_cmd_group ld_cmds_know;   /* also "container …": why it is as it is */
extern const struct ld_cmd_group ld_cmds_commit; /* likewise */
extern const struct ld_cmd_group ld_cmds_run;
extern const struct ld_cmd_group ld_cmds_snapshot; /* also "container clone" */
extern const struct ld_cmd_group ld_cmds_volume;
extern const struct ld_cmd_group ld_cmds_volume_files; /* also "volume …": what is in one */
extern const struct ld_cmd_group ld_cmds_trash;
extern const struct ld_cmd_group ld_cmds_layer;
extern const struct ld_cmd_group ld_cmds_job;
extern const struct ld_cmd_group ld_cmds_system;
extern const struct ld_cmd_group ld_cmds_check; /* also "system …" */
extern const struct ld_cmd_group ld_cmds_volume_snapshot;
extern const struct ld_cmd_group ld_cmds_image_prune, ld_cmds_container_prune;
extern const struct ld_cmd_group ld_cmds_volume_prune, ld_cmds_system_prune;
extern const struct ld_cmd_group ld_cmds_other; /* inspect, api, help, completion */

/* All of them, NULL at the end. */
extern const struct ld_cmd_group *const ld_cmds_all[];
/* Options before and after every command. */
extern const struct ld_opts ld_cmds_common;

/* The command named by the first words ("image", "ls" or "images"); *ret_used says how many they
 * were. NULL when there is none: then *err says so and what was probably meant. */
const struct ld_cmd *ld_cmd_find(size_t n, const char *const *words, size_t *ret_used,
                                 struct ld_err *err);
/* Is this a resource ("image")? */
bool ld_cmd_is_group(const char *word);
