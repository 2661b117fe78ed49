/* ext4 in a sparse file, for data that does not outlive the boot: no journal, nothing synced, and
 * mounted through a loop device that goes with its last user, so that whatever ends us leaves none.
 *
 * No program is run for it: libext2fs formats, ioctls attach. Results are -errno. Blocking; any
 * thread. Sources: loop(4), ext4(5), mke2fs(8), Documentation/filesystems/ext4.
 */
#pragma once

#include <stdint.h>

#include "daemon/base/cleanup.h"

/* Formats an empty file, which gets its size by that: so much can be written to it, at least, with
 * so many inodes, what ext4 keeps for itself not counted. -EFBIG: over 8 TiB. */
int ld_ext4_format(int file, uint64_t bytes, uint64_t inodes) ld_must_check;

/* A detached mount of it (nodev, nosuid; discard, so that the file gives freed blocks back), or:
 * -ENOENT no loop devices, -EPERM they are forbidden, -ENODEV no ext4 in this kernel. */
int ld_ext4_mount(int file) ld_must_check;

/* Nobody needs what is in it: nothing more is written to the file, whatever is dirty. `root`: of a
 * mount of it. Who has something open gets EIO. */
void ld_ext4_abandon(int root);
