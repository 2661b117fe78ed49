/* Images: see image.h. */
#include "daemon/core/image.h"

#include <string.h>

#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/core/config.h"
#include "daemon/core/image_mount.h"
#include "daemon/core/state.h"
#include "daemon/core/trash.h"
#include "daemon/image/ref.h"
#include "daemon/jobs/op.h"

static bool is_prefix(const char *text)
{
    size_t len = strlen(text);

    return len >= 4 && len < 64 && ld_is_hex(text, len);
}

/* "sha256:HEX" of a whole id, NULL for anything else; free it. */
static char *whole_id(const char *text)
{
    if (ld_is_hex(text, 64))
        return ld_asprintf("sha256:%s", text);
    if (strncmp(text, "sha256:", 7) == 0 && ld_is_hex(text + 7, 64))
        return ld_strdup(text);
    return NULL;
}

static int find_by_ref(struct ld_core *core, const char *text, struct ld_image *ret,
                       struct ld_err *err)
{
    struct ld_reference ref;
    char full[LD_REFERENCE_TEXT];

    if (ld_reference_parse(text, &ref, err) < 0)
        return -1;
    /* A digest in a reference names a manifest; what is stored is names and configs. */
    ld_reference_format(&ref, full);
    return ld_store_image_by_ref(core->store, full, ret, err);
}

int ld_image_find(struct ld_core *core, const char *text, struct ld_image *ret, struct ld_err *err)
{
    autofree char *id = whole_id(text);
    struct ld_err by_prefix = LD_ERR_INIT;

    if (id)
        return ld_store_image_get(core->store, id, ret, err);
    if (strncmp(text, "sha256:", 7) == 0)
        return ld_store_image_by_prefix(core->store, text, ret, err);
    if (find_by_ref(core, text, ret, err) == 0)
        return 0;
    if (!is_prefix(text) || (err->code != LD_E_NOT_FOUND && err->code != LD_E_INVALID))
        return err->code == LD_E_NOT_FOUND
                   ? ld_err_set(err, LD_E_NOT_FOUND, "there is no image '%s'", text)
                   : -1;
    if (ld_store_image_by_prefix(core->store, text, ret, &by_prefix) == 0)
        return 0;
    if (by_prefix.code == LD_E_NOT_FOUND)
        return ld_err_set(err, LD_E_NOT_FOUND, "there is no image '%s'", text);
    *err = by_prefix;
    return -1;
}

int ld_image_admit(struct ld_core *core, const char *text, bool exclusive, struct ld_op *op,
                   struct ld_image *ret, struct ld_err *err)
{
    struct ld_image image = {.id = NULL};

    if (ld_image_find(core, text, &image, err) < 0)
        return -1;
    ld_op_key(op, exclusive ? LD_EXCLUSIVE : LD_SHARED, "i:%s", image.id);
    if (ret)
        *ret = image;
    else
        ld_image_done(&image);
    return 0;
}

int ld_image_tag(struct ld_core *core, const struct ld_write *w, const char *image_id,
                 const char *ref, uint64_t if_match, struct ld_err *err)
{
    struct ld_reference parsed;
    char full[LD_REFERENCE_TEXT];

    if (ld_reference_parse(ref, &parsed, err) < 0)
        return -1;
    if (parsed.digest[0])
        return ld_err_set(err, LD_E_INVALID,
                          "the reference '%s' has a digest: a name can't be given one", ref);
    ld_reference_format(&parsed, full);
    return ld_store_image_tag(core->store, w, full, image_id, if_match, err);
}

static int make_removable(struct ld_core *core, const struct ld_write *w,
                          const struct ld_image *image, bool force, struct ld_err *err)
{
    autofree char *at = ld_image_mountpoint(core, image->id);

    if (!at || (force && w->dry_run))
        return 0;
    if (force)
        return ld_image_unmount(core, w, image->id, true, err);
    (void)ld_err_set(err, LD_E_BUSY, "the image is mounted at '%s'", at);
    return ld_err_hint(err, "unmount it first, or remove it with force");
}

int ld_image_remove(struct ld_core *core, const struct ld_write *w, const char *text,
                    const struct ld_image_removal *how, struct ld_removed *ret, struct ld_err *err)
{
    struct ld_image image LD_AUTO(ld_image_done) = {.id = NULL};
    struct ld_image_remove what = {
        .force = how->force, .all_refs = how->all_names, .if_match = how->if_match};
    struct ld_reference ref;
    struct ld_err ignored = LD_ERR_INIT;
    char full[LD_REFERENCE_TEXT];

    if (ld_image_find(core, text, &image, err) < 0)
        return -1;
    what.id = image.id;
    if (ld_reference_parse(text, &ref, &ignored) == 0) {
        ld_reference_format(&ref, full);
        for (size_t i = 0; i < image.n_refs; i++) {
            if (strcmp(image.refs[i], full) == 0) {
                what.id = NULL;
                what.ref = full;
            }
        }
    }
    /* With its last name, or by its id, the image itself goes. */
    if ((what.id || image.n_refs <= 1 || how->force) &&
        (!how->if_match || how->if_match == image.version) &&
        make_removable(core, w, &image, how->force, err) < 0)
        return -1;
    if (!how->purge && core->config->trash_images_ms) {
        what.keep_ns = (int64_t)core->config->trash_images_ms * 1000000;
        if (ld_store_take_sid(core->store, &what.trash_sid, err) < 0)
            return -1;
    }
    if (ld_store_image_remove(core->store, w, &what, ret, err) < 0 &&
        (w->dry_run || !ld_core_make_room(core, err) ||
         ld_store_image_remove(core->store, w, &what, ret, err) < 0))
        return -1;
    if (!w->dry_run)
        ld_trash_take(core, ret);
    return 0;
}

char *ld_image_short_ref(const char *ref)
{
    struct ld_reference parsed;
    struct ld_err ignored = LD_ERR_INIT;
    char text[LD_REFERENCE_TEXT];

    if (ld_reference_parse(ref, &parsed, &ignored) < 0)
        return ld_strdup(ref);
    ld_reference_familiar(&parsed, text);
    return ld_strdup(text);
}

/* By a unique beginning of the chain ID's digits. */
static int find_by_prefix(struct ld_store *store, const char *hex, struct ld_layer *ret,
                          struct ld_err *err)
{
    uint64_t after = 0;
    size_t found = 0, len = strlen(hex);

    do {
        struct ld_layer_page page LD_AUTO(ld_layer_page_done) = {.n = 0};

        if (ld_store_layer_list(store, after, 0, &page, err) < 0)
            return -1;
        for (size_t i = 0; i < page.n; i++) {
            struct ld_layer *l = &page.item[i];

            if (!l->chain_id || strncmp(l->chain_id + 7, hex, len) != 0)
                continue;
            found++;
            ld_layer_done(ret);
            *ret = *l;
            *l = (struct ld_layer){.sid = 0};
        }
        after = page.next;
    } while (after);
    if (found == 1)
        return 0;
    ld_layer_done(ret);
    return found ? ld_err_set(err, LD_E_CONFLICT, "'%s' begins the chain IDs of %zu layers", hex,
                              found)
                 : ld_err_set(err, LD_E_NOT_FOUND, "there is no layer '%s'", hex);
}

int ld_layer_find(struct ld_core *core, const char *text, struct ld_layer *ret, struct ld_err *err)
{
    const char *hex = strncmp(text, "sha256:", 7) == 0 ? text + 7 : text;
    size_t len = strlen(hex);

    if (len < 4 || len > 64 || !ld_is_hex(hex, len))
        return ld_err_set(err, LD_E_NOT_FOUND, "there is no layer '%s'", text);
    return find_by_prefix(core->store, hex, ret, err);
}
