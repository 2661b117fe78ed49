/* Packing layers: see layer_pack.h. */
#include "daemon/core/layer_pack.h"

#include <string.h>

#include "daemon/base/tree.h"
#include "daemon/core/tarout.h"
#include "daemon/image/dirs.h"
#include "daemon/image/recipe.h"
#include "daemon/image/sink.h"
#include "daemon/image/source.h"

/* What an import of the tar would refuse, or take for something else. */
static int check(const struct ld_layer_packing *p, const struct ld_node *node, struct ld_err *err)
{
    if (strncmp(node->name, ".wh.", 4) == 0)
        return ld_err_set(err, LD_E_BAD_CONTENT,
                          "'%s' begins with '.wh.': a layer can't have such a name", node->path);
    if (node->depth > LD_MAX_TREE_DEPTH)
        return ld_err_over_limit(err, "max_depth", LD_MAX_TREE_DEPTH,
                                 "'%.100s…' lies deeper than %d directories", node->path,
                                 LD_MAX_TREE_DEPTH);
    if (p->is_whole && node->is_whiteout)
        return ld_err_set(err, LD_E_BAD_CONTENT,
                          "'%s' is a character device 0:0, which stands for a deletion in a layer",
                          node->path);
    return 0;
}

static int write_entries(const struct ld_layer_packing *p, struct ld_tarout *out,
                         const struct ld_sink *counter, struct ld_err *err)
{
    const struct ld_layers layer = {.root = &p->root_fd, .n = 1, .form = LD_FORM_LAYER};
    LD_AUTO(ld_tree_free_p)
    struct ld_tree *tree = ld_tree_new(&layer, LD_TREE_NO_LEAVE | LD_TREE_WHITEOUTS, p->cancel);
    struct ld_node node;
    uint64_t entries = 0;
    int rc;

    while ((rc = ld_tree_next(tree, &node, err)) > 0) {
        if (++entries > LD_TAR_MAX_ENTRIES)
            return ld_err_over_limit(err, "max_entries", LD_TAR_MAX_ENTRIES,
                                     "the layer has more than %d entries", LD_TAR_MAX_ENTRIES);
        if (check(p, &node, err) < 0)
            return -1;
        rc = node.is_whiteout ? ld_tarout_whiteout(out, node.path + 1, err)
                              : ld_tarout_node(out, &node, node.path + 1, err);
        if (rc < 0)
            break;
        if (p->progress)
            p->progress(p->progress_arg, ld_sink_digest_count(counter));
    }
    if (rc == 0)
        rc = ld_tarout_finish(out, err);
    if (rc < 0 && err->code == LD_E_INVALID) /* the writer's word for what tar can't say */
        err->code = LD_E_BAD_CONTENT;
    return rc;
}

int ld_layer_pack(const struct ld_layer_packing *p, struct ld_digest *ret_diff_id,
                  struct ld_err *err)
{
    auto_sink *sink = ld_sink_digest_new(NULL);
    auto_recipe *recipe = ld_recipe_new(p->recipe_fd);
    LD_AUTO(ld_tarout_free_p)
    struct ld_tarout *out = ld_tarout_new_recorded(sink, recipe, p->cancel);

    if (write_entries(p, out, sink, err) < 0 || ld_recipe_finish(recipe, err) < 0)
        return -1;
    *ret_diff_id = ld_sink_digest_final(sink);
    return 0;
}
