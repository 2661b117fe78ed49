/* Files and changes as JSON, as every list of them has it. The results are the caller's. Any
 * thread.
 */
#pragma once

struct cJSON;
struct ld_change;
struct ld_file_info;

/* All of FileInfo but the name. */
void ld_json_add_file(struct cJSON *object, const struct ld_file_info *info);

struct cJSON *ld_change_json(const struct ld_change *change);
