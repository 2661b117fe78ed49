/* ext4 in a file: see ext4_image.h. No state. */
#include "daemon/base/ext4_image.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <unistd.h>

#include <ext2fs/ext2fs.h>

#include "daemon/base/fdio.h"

/* Of the kernel's fs/ext4/ext4.h, in no header of user space. */
#define EXT4_IOC_SHUTDOWN  _IOR('X', 125, uint32_t)
#define SHUTDOWN_NOFLUSH   UINT32_C(2)
#define LOOP_TRIES         64
#define BLOCK_SIZE_BITS_4K 12

enum {
    BLOCK = 1 << BLOCK_SIZE_BITS_4K,
    GROUP = 8 * BLOCK, /* blocks */
    INODE = 256,
    LEAST_BLOCKS = 64,   /* of a group, but for its inodes */
    OWN_BLOCKS = 8,      /* directories that are there before anything is written */
    RESERVED_SHARE = 50, /* the kernel keeps one block in so many (ext4_calculate_resv_clusters), */
    RESERVED_MOST = 4096, /* at most these, for itself */
};
#define MAX_BYTES (UINT64_C(8) << 40)

static void set_features(struct ext2_super_block *sb)
{
    ext2fs_set_feature_filetype(sb);
    ext2fs_set_feature_xattr(sb);
    ext2fs_set_feature_dir_index(sb);
    ext2fs_set_feature_sparse_super(sb);
    ext2fs_set_feature_large_file(sb);
    ext2fs_set_feature_huge_file(sb);
    ext2fs_set_feature_dir_nlink(sb);
    ext2fs_set_feature_extra_isize(sb);
    ext2fs_set_feature_extents(sb);
    ext2fs_set_feature_flex_bg(sb);
    ext2fs_set_feature_gdt_csum(sb); /* tables that nothing was written to are not read either */
}

/* In memory only, until it is closed. A library's error is an errno, or one of its own. */
static int initialize(int file, uint64_t blocks, uint64_t inodes, ext2_filsys *ret)
{
    struct ext2_super_block param = {.s_log_block_size = BLOCK_SIZE_BITS_4K - 10,
                                     .s_log_cluster_size = BLOCK_SIZE_BITS_4K - 10,
                                     .s_rev_level = EXT2_DYNAMIC_REV,
                                     .s_inode_size = INODE,
                                     .s_log_groups_per_flex = 4};
    char name[16]; /* the I/O manager for descriptors takes their numbers */
    ext2_filsys fs = NULL;
    int fd = fcntl(file, F_DUPFD_CLOEXEC, 0);
    errcode_t e;

    if (fd < 0)
        return -errno;
    (void)snprintf(name, sizeof(name), "%d", fd);
    ext2fs_blocks_count_set(&param, blocks);
    param.s_inodes_count = inodes < UINT32_MAX ? (uint32_t)inodes : UINT32_MAX;
    set_features(&param);
    /* From here on the descriptor is the library's, which closes it when it fails, too. */
    e = ext2fs_initialize(name, 0, &param, unixfd_io_manager, &fs);
    if (e == 0)
        e = ext2fs_allocate_tables(fs);
    if (e == 0 && fs) {
        *ret = fs;
        return 0;
    }
    if (fs)
        ext2fs_free(fs);
    return e > 0 && e < 4096 ? -(int)e : -EINVAL;
}

static uint64_t reserved_of(uint64_t blocks)
{
    return blocks / RESERVED_SHARE < RESERVED_MOST ? blocks / RESERVED_SHARE : RESERVED_MOST;
}

/* What others can write to it. */
static uint64_t usable(ext2_filsys fs)
{
    uint64_t kept = reserved_of(ext2fs_blocks_count(fs->super)) + OWN_BLOCKS;
    uint64_t room = ext2fs_free_blocks_count(fs->super);

    return room > kept ? room - kept : 0;
}

/* A good guess: most of the time it is enough. */
static uint64_t guess(uint64_t want, uint64_t inodes)
{
    uint64_t tables = inodes * INODE / BLOCK;
    uint64_t blocks = want + tables + OWN_BLOCKS + 8 + want / GROUP * 4;

    blocks += reserved_of(blocks + blocks / RESERVED_SHARE + 1);
    return blocks > tables + LEAST_BLOCKS ? blocks : tables + LEAST_BLOCKS;
}

/* The overhead is known when it is laid out, so it is laid out until it fits. The library leaves a
 * last group out, or refuses a first one, that is hardly more than its tables. */
static int lay_out(int file, uint64_t want, uint64_t inodes, ext2_filsys *ret)
{
    uint64_t blocks = guess(want, inodes);

    for (;;) {
        int r = initialize(file, blocks, inodes, ret);
        bool is_cut;

        if (r < 0)
            return r;
        assert(*ret);
        if (usable(*ret) >= want)
            return 0;
        is_cut = ext2fs_blocks_count((*ret)->super) < blocks;
        blocks += want - usable(*ret) + (is_cut ? LEAST_BLOCKS : 0);
        ext2fs_free(*ret);
        *ret = NULL;
    }
}

/* The file is new, so its tables are zeros already and nobody has to write them. */
static errcode_t fill(ext2_filsys fs)
{
    struct ext2_super_block *sb = fs->super;
    errcode_t e;

    sb->s_def_hash_version = EXT2_HASH_HALF_MD4;
    sb->s_min_extra_isize = sb->s_want_extra_isize = 32;
    sb->s_errors = EXT2_ERRORS_CONTINUE;
    sb->s_max_mnt_count = -1;
    if (getrandom(sb->s_uuid, sizeof(sb->s_uuid), 0) < 0 ||
        getrandom(sb->s_hash_seed, sizeof(sb->s_hash_seed), 0) < 0)
        return errno;
    for (dgrp_t g = 0; g < fs->group_desc_count; g++) {
        ext2fs_bg_flags_set(fs, g, EXT2_BG_INODE_ZEROED);
        ext2fs_group_desc_csum_set(fs, g);
    }
    e = ext2fs_mkdir(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, NULL);
    for (ext2_ino_t i = 1; e == 0 && i < EXT2_FIRST_INODE(sb); i++) {
        if (i != EXT2_ROOT_INO)
            ext2fs_inode_alloc_stats2(fs, i, +1, 0);
    }
    return e;
}

int ld_ext4_format(int file, uint64_t bytes, uint64_t inodes)
{
    ext2_filsys fs = NULL;
    uint64_t blocks;
    errcode_t e;
    int r;

    if (bytes > MAX_BYTES)
        return -EFBIG;
    r = lay_out(file, (bytes + BLOCK - 1) / BLOCK, inodes, &fs);
    if (r < 0)
        return r;
    blocks = ext2fs_blocks_count(fs->super);
    e = ftruncate(file, (off_t)(blocks * BLOCK)) < 0 ? errno : fill(fs);
    if (e) {
        ext2fs_free(fs);
    } else {
        e = ext2fs_close2(fs, EXT2_FLAG_FLUSH_NO_SYNC);
        if (e)
            ext2fs_free(fs);
    }
    return e == 0 ? 0 : e > 0 && e < 4096 ? -(int)e : -EIO;
}

/* ---- mounting ---- */

/* The device, open: it goes with its last user. */
static int attach(int file, char device[32])
{
    autoclose int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    struct loop_config config = {
        .fd = (uint32_t)file,
        .block_size = BLOCK,
        .info = {.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO, .lo_file_name = "layerd"}};

    if (control < 0)
        return -errno;
    for (int i = 0; i < LOOP_TRIES; i++) { /* others look for a free one, too */
        int n = ioctl(control, LOOP_CTL_GET_FREE);
        autoclose int loop = -EBADF;

        if (n < 0)
            return -errno;
        (void)snprintf(device, 32, "/dev/loop%d", n); /* 19 bytes at most */
        loop = open(device, O_RDWR | O_CLOEXEC);
        if (loop < 0)
            return -errno;
        if (ioctl(loop, LOOP_CONFIGURE, &config) == 0)
            return ld_steal_fd(&loop);
        if (errno != EBUSY)
            return -errno;
    }
    return -EBUSY;
}

int ld_ext4_mount(int file)
{
    char device[32];
    autoclose int loop = attach(file, device);
    autoclose int fs = loop < 0 ? -EBADF : fsopen("ext4", FSOPEN_CLOEXEC);
    int fd;

    if (loop < 0)
        return loop;
    if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "source", device, 0) < 0 ||
        fsconfig(fs, FSCONFIG_SET_FLAG, "discard", NULL, 0) < 0 ||
        fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return -errno;
    fd = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID);
    return fd < 0 ? -errno : fd;
}

void ld_ext4_abandon(int root)
{
    uint32_t how = SHUTDOWN_NOFLUSH;

    (void)ioctl(root, EXT4_IOC_SHUTDOWN, &how); /* it only saves the writing */
}
