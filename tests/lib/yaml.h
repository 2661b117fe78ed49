/* YAML files of ours as JSON values: what openapi.yaml needs, strict. */
#pragma once

#include "daemon/base/cleanup.h"

struct cJSON;

/* Mappings with string keys, sequences, scalars by YAML 1.2's core schema (plain `true`, `null`,
 * `7` are no strings). Duplicate keys, aliases, tags and floats are refused. NULL: *ret_problem
 * (free it) says where and why. Free the result by cJSON_Delete. Any thread. */
struct cJSON *ld_yaml_read(const char *path, char **ret_problem) ld_must_check;
