/* What overlay does with an image's own trusted.overlay.* xattrs. */
#pragma once

#include <stdbool.h>

struct ld_core;

/* Does the kernel show trusted.overlay.overlay.X of a layer as trusted.overlay.X (Linux 6.7)? Found
 * by trying, on a mount that nobody sees; false when it cannot be tried. Blocks for less than a
 * millisecond; any worker. */
bool ld_core_escapes_xattrs(const struct ld_core *core);
