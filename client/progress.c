/* Progress lines: see progress.h. The cursor rests below the block between draws, so that whatever
 * else is printed starts on a line of its own. */
#include "client/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "client/text.h"
#include "daemon/base/fdio.h"
#include "daemon/base/mem.h"

enum {
    ROWS_MAX = 8, /* more things at once share the screen with nobody */
    LABEL_WIDTH = 20,
    BAR_MIN = 10,
    BAR_MAX = 40,
    DRAW_EVERY_MS = 100,
    SAMPLE_EVERY_MS = 250,
    NAME_MAX_BYTES = 128,
};

struct row {
    char id[NAME_MAX_BYTES];
    char phase[NAME_MAX_BYTES];
    struct ld_progress_row view;
    uint64_t touched_ms;
};

struct ld_progress {
    int fd;
    bool visible;
    struct row rows[ROWS_MAX];
    size_t n_rows;
    size_t drawn; /* lines on the screen */
    uint64_t drawn_ms;
};

void ld_rate_add(struct ld_rate *rate, uint64_t total_bytes, uint64_t now_ms)
{
    double sample, weight;
    uint64_t elapsed;

    if (!rate->started || total_bytes < rate->last_bytes || now_ms < rate->last_ms) {
        *rate = (struct ld_rate){.started = true, .last_ms = now_ms, .last_bytes = total_bytes};
        return;
    }
    elapsed = now_ms - rate->last_ms;
    if (elapsed < SAMPLE_EVERY_MS)
        return;
    sample = (double)(total_bytes - rate->last_bytes) * 1000 / (double)elapsed;
    /* A sample's weight grows with the time it covers: about half after two seconds. */
    weight = (double)elapsed / ((double)elapsed + 2000);
    rate->per_second =
        rate->per_second > 0 ? rate->per_second + weight * (sample - rate->per_second) : sample;
    rate->last_ms = now_ms;
    rate->last_bytes = total_bytes;
}

bool ld_rate_eta(const struct ld_rate *rate, uint64_t remaining, uint64_t *ret_seconds)
{
    double seconds;

    if (rate->per_second < 1)
        return false;
    seconds = (double)remaining / rate->per_second;
    if (seconds > 359999) /* 99:59:59: nothing anybody waits for */
        return false;
    *ret_seconds = (uint64_t)(seconds + 0.5);
    return true;
}

/* "[=====>    ] ", or nothing where it has no room. */
static void add_bar(struct ld_buf *buf, double done, size_t width)
{
    size_t inner = width - 3;
    size_t filled = (size_t)(done * (double)inner);

    ld_buf_addc(buf, '[');
    for (size_t i = 0; i < inner; i++)
        ld_buf_addc(buf, i < filled ? '=' : i == filled ? '>' : ' ');
    ld_buf_adds(buf, "] ");
}

/* "45 %   82 MiB / 180 MiB   210 MiB/s  0:01 left" */
static void add_figures(struct ld_buf *buf, const struct ld_progress_row *row, double done)
{
    struct ld_text current = ld_text_size(row->current);
    uint64_t seconds;

    if (row->total > 0)
        ld_buf_addf(buf, "%3d%%  %s / %s", (int)(done * 100), current.text,
                    ld_text_size(row->total).text);
    else
        ld_buf_adds(buf, current.text);
    if (row->rate.per_second >= 1)
        ld_buf_addf(buf, "  %s/s", ld_text_size((uint64_t)row->rate.per_second).text);
    if (row->total > row->current && ld_rate_eta(&row->rate, row->total - row->current, &seconds))
        ld_buf_addf(buf, "  %s left", ld_text_duration(seconds).text);
}

void ld_progress_line(const struct ld_progress_row *row, size_t columns, struct ld_buf *ret)
{
    autobuf struct ld_buf label = LD_BUF_INIT(4096);
    autobuf struct ld_buf figures = LD_BUF_INIT(4096);
    autobuf struct ld_buf line = LD_BUF_INIT(8192);
    double done = row->total > 0 ? (double)row->current / (double)row->total : 0;
    size_t used;

    if (done > 1)
        done = 1;
    ld_text_add_cut(&label, row->what, LABEL_WIDTH);
    used = ld_text_width(ld_buf_str(&label));
    ld_buf_addf(&line, "%s%*s", ld_buf_str(&label), (int)(LABEL_WIDTH - used + 2), "");
    add_figures(&figures, row, done);
    used = LABEL_WIDTH + 2 + ld_text_width(ld_buf_str(&figures));
    if (row->total > 0 && columns >= used + BAR_MIN) {
        size_t room = columns - used;

        add_bar(&line, done, room > BAR_MAX ? BAR_MAX : room);
    }
    ld_buf_adds(&line, ld_buf_str(&figures));
    ld_text_add_cut(ret, ld_buf_str(&line), columns);
}

static uint64_t now_ms(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail for this clock */
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static size_t columns_of(int fd)
{
    struct winsize size;

    return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

struct ld_progress *ld_progress_new(int fd, bool visible)
{
    struct ld_progress *p = ld_new(struct ld_progress);

    p->fd = fd;
    p->visible = visible;
    return p;
}

static void draw(struct ld_progress *p, uint64_t now)
{
    autobuf struct ld_buf out = LD_BUF_INIT(1 << 16);
    size_t columns = columns_of(p->fd);

    if (p->drawn > 0)
        ld_buf_addf(&out, "\033[%zuA", p->drawn);
    for (size_t i = 0; i < p->n_rows; i++) {
        struct row *row = &p->rows[i];
        autofree char *what = ld_text_safe(row->phase);
        autofree char *id = ld_text_safe(row->id);
        autofree char *label = ld_asprintf("%s%s%s", id, *id && *what ? " " : "", what);

        row->view.what = label;
        ld_progress_line(&row->view, columns - 1, &out);
        row->view.what = NULL;
        ld_buf_adds(&out, "\033[K\n");
    }
    ld_buf_adds(&out, "\033[J");
    (void)!ld_write_full(p->fd, ld_buf_str(&out),
                         out.len); /* decoration: losing it is no failure */
    p->drawn = p->n_rows;
    p->drawn_ms = now;
}

/* The row of an id; a new one takes the place of the one that is done, else of the stalest. */
static struct row *find_row(struct ld_progress *p, const char *id)
{
    struct row *victim = NULL;

    for (size_t i = 0; i < p->n_rows; i++) {
        if (strncmp(p->rows[i].id, id, sizeof(p->rows[i].id) - 1) == 0)
            return &p->rows[i];
    }
    for (size_t i = 0; i < p->n_rows; i++) {
        struct row *row = &p->rows[i];

        if (row->view.total > 0 && row->view.current >= row->view.total)
            victim = row;
    }
    if (!victim && p->n_rows < ROWS_MAX)
        victim = &p->rows[p->n_rows++];
    for (size_t i = 0; !victim && i < p->n_rows; i++) {
        victim = &p->rows[0];
        if (p->rows[i].touched_ms < victim->touched_ms)
            victim = &p->rows[i];
    }
    *victim = (struct row){0};
    (void)snprintf(victim->id, sizeof(victim->id), "%s", id); /* cut: it is only a label */
    return victim;
}

void ld_progress_set(struct ld_progress *p, const char *id, const char *phase, uint64_t current,
                     uint64_t total)
{
    uint64_t now;
    struct row *row;

    if (!p->visible)
        return;
    now = now_ms();
    row = find_row(p, id);
    if (strncmp(row->phase, phase, sizeof(row->phase) - 1) != 0) {
        row->view.rate = (struct ld_rate){0};
        (void)snprintf(row->phase, sizeof(row->phase), "%s", phase); /* cut: it is only a label */
    }
    row->view.current = current;
    row->view.total = total;
    row->touched_ms = now;
    ld_rate_add(&row->view.rate, current, now);
    if (now - p->drawn_ms >= DRAW_EVERY_MS)
        draw(p, now);
}

void ld_progress_clear(struct ld_progress *p)
{
    char text[32];
    int n;

    if (p->drawn == 0)
        return;
    n = snprintf(text, sizeof(text), "\033[%zuA\033[J", p->drawn);
    (void)!ld_write_full(p->fd, text, (size_t)n); /* see draw() */
    p->drawn = 0;
}

void ld_progress_free_p(struct ld_progress **p)
{
    if (*p)
        ld_progress_clear(*p);
    ld_free_p(p);
}
