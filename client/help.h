/* Help, generated from the command tables. Prints to standard output. */
#pragma once

#include "client/cli.h"

void ld_help_main(const struct ld_cli *cli);
void ld_help_group(const struct ld_cli *cli, const char *group);
void ld_help_cmd(const struct ld_cli *cli, const struct ld_cmd *cmd);
