/* libyaml's document tree to cJSON. Recursion is bounded by MAX_DEPTH; only files of the source
 * tree are read. */
#include "tests/lib/yaml.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <yaml.h>

#include "daemon/base/mem.h"
#include "daemon/base/parse.h"

enum { MAX_DEPTH = 64 };

struct reader {
    yaml_document_t *doc;
    char **problem;
};

static cJSON *fail(const struct reader *r, const yaml_node_t *node, const char *text)
{
    if (!*r->problem)
        *r->problem = ld_asprintf("line %zu: %s", node->start_mark.line + 1, text);
    return NULL;
}

static cJSON *read_scalar(const struct reader *r, const yaml_node_t *node)
{
    const char *text = (const char *)node->data.scalar.value;
    uint64_t number;

    if (strlen(text) != node->data.scalar.length)
        return fail(r, node, "NUL in a scalar");
    if (node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
        return cJSON_CreateString(text);
    if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
        return cJSON_CreateBool(text[0] == 't');
    if (strcmp(text, "null") == 0 || text[0] == '\0' || strcmp(text, "~") == 0)
        return cJSON_CreateNull();
    if (ld_parse_u64(text, 0, UINT64_C(1) << 53, &number) == 0)
        return cJSON_CreateNumber((double)number);
    return cJSON_CreateString(text);
}

static cJSON *read_node(const struct reader *r, int id, int depth);

static cJSON *read_mapping(const struct reader *r, const yaml_node_t *node, int depth)
{
    cJSON *object = cJSON_CreateObject();

    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         pair < node->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(r->doc, pair->key);
        const char *name = (const char *)key->data.scalar.value;
        cJSON *value;

        if (key->type != YAML_SCALAR_NODE || cJSON_GetObjectItemCaseSensitive(object, name)) {
            cJSON_Delete(object);
            return fail(r, key, "a key that is there twice, or no string");
        }
        value = read_node(r, pair->value, depth + 1);
        if (!value) {
            cJSON_Delete(object);
            return NULL;
        }
        cJSON_AddItemToObject(object, name, value);
    }
    return object;
}

static cJSON *read_sequence(const struct reader *r, const yaml_node_t *node, int depth)
{
    cJSON *array = cJSON_CreateArray();

    for (yaml_node_item_t *item = node->data.sequence.items.start;
         item < node->data.sequence.items.top; item++) {
        cJSON *value = read_node(r, *item, depth + 1);

        if (!value) {
            cJSON_Delete(array);
            return NULL;
        }
        cJSON_AddItemToArray(array, value);
    }
    return array;
}

static cJSON *read_node(const struct reader *r, int id, int depth)
{
    const yaml_node_t *node = yaml_document_get_node(r->doc, id);

    if (depth > MAX_DEPTH)
        return fail(r, node, "too deep (an alias?)");
    switch (node->type) {
    case YAML_SCALAR_NODE:
        return read_scalar(r, node);
    case YAML_MAPPING_NODE:
        return read_mapping(r, node, depth);
    case YAML_SEQUENCE_NODE:
        return read_sequence(r, node, depth);
    case YAML_NO_NODE:
        break;
    }
    return fail(r, node, "not a value");
}

static cJSON *read_document(yaml_parser_t *parser, char **ret_problem)
{
    yaml_document_t doc;
    cJSON *value = NULL;
    int root;

    if (!yaml_parser_load(parser, &doc)) {
        *ret_problem = ld_asprintf("line %zu: %s", parser->problem_mark.line + 1,
                                   parser->problem ? parser->problem : "unreadable");
        return NULL;
    }
    root = yaml_document_get_root_node(&doc) ? 1 : 0; /* node ids begin with 1, the root's */
    if (root)
        value = read_node(&(struct reader){&doc, ret_problem}, root, 0);
    else
        *ret_problem = ld_strdup("empty");
    yaml_document_delete(&doc);
    return value;
}

cJSON *ld_yaml_read(const char *path, char **ret_problem)
{
    FILE *file = fopen(path, "re");
    yaml_parser_t parser;
    cJSON *value = NULL;

    *ret_problem = NULL;
    if (!file) {
        *ret_problem = ld_asprintf("cannot open '%s' (errno %d)", path, errno);
        return NULL;
    }
    if (yaml_parser_initialize(&parser)) {
        yaml_parser_set_input_file(&parser, file);
        value = read_document(&parser, ret_problem);
        yaml_parser_delete(&parser);
    }
    (void)fclose(file);
    return value;
}
