/* /v1/events: what is kept, page by page; and followers, who go on with what comes.
 *
 * A follower is a cursor: told that there are new events, or that its client has taken what it was
 * sent, it reads the next page on a worker and writes it to its feed. So nothing is queued for a
 * slow client but one page, and nothing is lost but what the ring of events drops, which is told as
 * a gap. Loop thread, but for read_page and produce. */
#include "api/events.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <utlist.h>

#include "api/call.h"
#include "api/json.h"
#include "api/list.h"
#include "api/router.h"
#include "api/routes.h"
#include "daemon/base/buf.h"
#include "daemon/base/mem.h"
#include "daemon/base/parse.h"
#include "daemon/core/core.h"
#include "daemon/core/image.h"
#include "daemon/image/ref.h"
#include "daemon/jobs/loop.h"

enum {
    PAGE = 200,                /* events of one page */
    MAX_PAGE_BYTES = 16 << 20, /* attributes are at most a few KiB each */
    FEED_FULL = 256 << 10,     /* unsent: wait until the client has taken some */
    RETRY_MS = 20,
};

/* What a client asked for. */
struct wish {
    struct ld_core *core;
    struct ld_filters filters;
    char ref[LD_REFERENCE_TEXT]; /* the filter "object" as an image's name, as records have it */
    uint64_t after;
    uint64_t left; /* events until the end; UINT64_MAX: no limit */
};

/* ---- events as lines ---- */

/* References are shown in their short form. */
static cJSON *name_json(const struct ld_event *event)
{
    autofree char *shown = NULL;

    if (!event->object_name || strcmp(event->kind, "image") != 0)
        return ld_json_text(event->object_name);
    shown = ld_image_short_ref(event->object_name);
    return ld_json_text(shown);
}

static cJSON *event_json(const struct ld_event *event)
{
    cJSON *json = cJSON_CreateObject();
    cJSON *object = cJSON_AddObjectToObject(json, "object");
    cJSON *actor = event->uid >= 0 ? cJSON_CreateObject() : cJSON_CreateNull();

    cJSON_AddItemToObject(json, "id", ld_json_u64(event->id));
    cJSON_AddItemToObject(json, "time", ld_json_time(event->time_ns));
    cJSON_AddStringToObject(json, "type", event->type);
    cJSON_AddStringToObject(object, "kind", event->kind);
    cJSON_AddItemToObject(object, "id", ld_json_text(event->object_id));
    cJSON_AddItemToObject(object, "name", name_json(event));
    if (event->uid >= 0) {
        cJSON_AddItemToObject(actor, "uid", ld_json_u64((uint64_t)event->uid));
        cJSON_AddItemToObject(actor, "pid", ld_json_u64(event->pid > 0 ? (uint64_t)event->pid : 0));
    }
    cJSON_AddItemToObject(json, "actor", actor);
    cJSON_AddItemToObject(json, "request_id", ld_json_text(event->request_id));
    cJSON_AddItemToObject(json, "attributes", ld_json_raw(event->attributes, "{}"));
    return json;
}

static void add_line(struct ld_buf *buf, cJSON *json)
{
    autofree char *text = cJSON_PrintUnformatted(json);

    cJSON_Delete(json);
    if (text)
        ld_buf_addf(buf, "%s\n", text);
}

static void add_gap(struct ld_buf *buf, uint64_t from, uint64_t to)
{
    cJSON *json = cJSON_CreateObject();
    cJSON *gap = cJSON_AddObjectToObject(json, "gap");

    cJSON_AddItemToObject(gap, "from", ld_json_u64(from));
    cJSON_AddItemToObject(gap, "to", ld_json_u64(to));
    add_line(buf, json);
}

/* Worker. The next page as lines; moves the cursor; *ret_more: another page is there. */
static int read_page(struct wish *wish, struct ld_buf *buf, bool *ret_more, struct ld_err *err)
{
    struct ld_event_page page LD_AUTO(ld_event_page_done) = {.n = 0};
    struct ld_event_query query = {.after = wish->after,
                                   .limit = wish->left < PAGE ? wish->left : PAGE,
                                   .type_glob = ld_filter_get(&wish->filters, "type"),
                                   .kind = ld_filter_get(&wish->filters, "kind"),
                                   .object = ld_filter_get(&wish->filters, "object"),
                                   .ref = wish->ref[0] ? wish->ref : NULL};

    if (ld_store_event_list(ld_core_store(wish->core), &query, &page, err) < 0)
        return -1;
    if (page.gap_to)
        add_gap(buf, page.gap_from, page.gap_to);
    for (size_t i = 0; i < page.n; i++)
        add_line(buf, event_json(&page.item[i]));
    if (ld_buf_check(buf) < 0)
        return ld_err_set(err, LD_E_INTERNAL, "a page of events is too large");
    wish->after = page.next;
    if (wish->left != UINT64_MAX)
        wish->left -= page.n;
    *ret_more = page.more && wish->left > 0;
    return 0;
}

/* ---- what is kept ---- */

static int produce(struct ld_stream *stream, void *arg, struct ld_err *err)
{
    autobuf struct ld_buf buf = LD_BUF_INIT(MAX_PAGE_BYTES);
    struct wish *wish = arg;
    bool more = true;

    while (more) {
        ld_buf_clear(&buf);
        if (read_page(wish, &buf, &more, err) < 0 ||
            (buf.len > 0 && ld_stream_write(stream, buf.data, buf.len, err) < 0))
            return -1;
    }
    return 0;
}

static void free_wish(void *arg)
{
    struct wish *wish = arg;

    ld_filters_done(&wish->filters);
    free(wish);
}

/* ---- followers ---- */

struct follower {
    struct ld_followers *all;
    struct wish *wish;
    struct ld_feed *feed; /* NULL: it has ended */
    struct ld_timer *retry;
    struct ld_op op;
    struct ld_buf page;
    bool is_reading; /* op is under way: it has wish and page */
    bool is_behind;  /* there may be more than what was read */
    bool more;
    struct follower *prev, *next;
};

struct ld_followers {
    struct ld_core *core;
    struct follower *list;
    bool is_stopped;
};

static void free_if_over(struct follower *f)
{
    if (f->feed || f->is_reading)
        return;
    DL_DELETE(f->all->list, f);
    ld_timer_free(f->retry);
    ld_buf_done(&f->page);
    free_wish(f->wish);
    free(f);
}

static void pump(struct follower *f);

static int run_read(struct ld_op *op, struct ld_err *err)
{
    struct follower *f = op->arg;

    return read_page(f->wish, &f->page, &f->more, err);
}

/* A page that cannot be read ends the reply: the client comes back with the last id it has. */
static void read_done(struct ld_op *op)
{
    struct follower *f = op->arg;

    f->is_reading = false;
    f->is_behind |= f->more;
    if (f->feed && op->rc == 0 && f->page.len > 0 &&
        !ld_feed_write(f->feed, f->page.data, f->page.len))
        f->is_behind = false; /* it has gone: `ended` follows */
    else if (f->feed && (op->rc < 0 || f->wish->left == 0))
        ld_feed_end(ld_steal(&f->feed));
    else
        pump(f);
    free_if_over(f);
}

static void pump(struct follower *f)
{
    if (!f->feed || f->is_reading || !f->is_behind)
        return;
    if (ld_feed_unsent(f->feed) > FEED_FULL) {
        ld_timer_start(f->retry, RETRY_MS, 0);
        return;
    }
    f->is_behind = false;
    f->is_reading = true;
    f->more = false;
    ld_buf_clear(&f->page);
    ld_op_init(&f->op, LD_LANE_QUICK, run_read, read_done, f);
    ld_ops_submit(ld_core_ops(f->all->core), &f->op);
}

static void retry(void *arg)
{
    pump(arg);
}

static void ended(void *arg)
{
    struct follower *f = arg;

    f->feed = NULL;
    free_if_over(f);
}

static void follow(struct ld_request *req, struct wish *wish)
{
    struct ld_followers *all = ld_api_followers(ld_request_app(req));
    struct ld_loop *loop = ld_request_loop(req);
    struct follower *f = ld_new(struct follower);

    f->all = all;
    f->wish = wish;
    f->page = LD_BUF_INIT(MAX_PAGE_BYTES);
    f->retry = ld_timer_new(loop, retry, f);
    f->is_behind = true;
    DL_APPEND(all->list, f);
    f->feed = ld_reply_feed(req, "application/x-ndjson", ended, f);
    if (all->is_stopped && f->feed)
        ld_feed_end(ld_steal(&f->feed));
    pump(f);
    free_if_over(f);
}

static void on_events(void *arg, uint64_t newest_id)
{
    struct ld_followers *all = arg;
    struct follower *f, *next;

    (void)newest_id; /* each has its own cursor */
    DL_FOREACH_SAFE (all->list, f, next) {
        f->is_behind = true;
        pump(f);
    }
}

struct ld_followers *ld_followers_new(struct ld_core *core)
{
    struct ld_followers *all = ld_new(struct ld_followers);

    all->core = core;
    ld_core_watch_events(core, on_events, all);
    return all;
}

void ld_followers_stop(struct ld_followers *all)
{
    struct follower *f, *next;

    all->is_stopped = true;
    DL_FOREACH_SAFE (all->list, f, next) {
        if (f->feed)
            ld_feed_end(ld_steal(&f->feed));
        free_if_over(f);
    }
}

void ld_followers_free(struct ld_followers *all)
{
    if (!all)
        return;
    ld_core_watch_events(all->core, NULL, NULL);
    assert(!all->list);
    free(all);
}

/* ---- the request ---- */

static void read_object(struct wish *wish)
{
    const char *object = ld_filter_get(&wish->filters, "object");
    struct ld_err ignored = LD_ERR_INIT;
    struct ld_reference ref;

    if (object && ld_reference_parse(object, &ref, &ignored) == 0)
        ld_reference_format(&ref, wish->ref);
}

static int read_wish(const struct ld_request *req, struct wish *wish, struct ld_err *err)
{
    const char *after = ld_request_query(req, "after");

    wish->left = UINT64_MAX;
    if (ld_request_u64(req, "limit", 1, LD_STORE_PAGE_MAX, &wish->left, err) < 0 ||
        ld_filters_read(req, "type kind object", &wish->filters, err) < 0)
        return -1;
    read_object(wish);
    if (!after)
        return 0;
    if (strcmp(after, "latest") == 0)
        wish->after = ld_store_event_newest(ld_core_store(wish->core));
    else if (ld_parse_u64(after, 0, INT64_MAX, &wish->after) < 0)
        return ld_err_set(err, LD_E_INVALID,
                          "after='%s' is neither the id of an event nor 'latest'", after);
    return 0;
}

static void show(struct ld_request *req)
{
    struct wish *wish = ld_new(struct wish);
    struct ld_producer producer = {.run = produce,
                                   .free = free_wish,
                                   .arg = wish,
                                   .status = 200,
                                   .content_type = "application/x-ndjson"};
    struct ld_err err = LD_ERR_INIT;

    wish->core = ld_request_core(req);
    if (read_wish(req, wish, &err) < 0) {
        ld_reply_error(req, &err);
        free_wish(wish);
    } else if (ld_request_flag(req, "follow")) {
        follow(req, wish);
    } else {
        ld_reply_stream(req, &producer);
    }
}

void ld_routes_events(struct ld_router *router)
{
    static const struct ld_route routes[] = {
        {"GET", "/v1/events", show, LD_ROUTE_METADATA, "after follow? limit filter*"},
    };

    ld_router_add(router, routes, LD_ARRAY_LEN(routes));
}
