/* Streams of the daemon into files: see download.h. */
#include "client/download.h"

#include <string.h>
#include <unistd.h>

#include "client/http.h"
#include "client/progress.h"
#include "client/sink.h"

int ld_download(struct ld_cli *cli, const char *target, const char *accept, const char *path,
                bool binary, struct ld_err *err)
{
    bool to_stdout = !path || strcmp(path, "-") == 0;
    autoprogress struct ld_progress *progress = ld_progress_new(
        STDERR_FILENO, cli->err_is_terminal && !(to_stdout && cli->out_is_terminal));
    autoreply struct ld_http_reply reply = LD_HTTP_REPLY_INIT;
    autosink struct ld_outfile *sink = NULL;
    struct ld_http_call call = {
        .method = "GET", .target = target, .headers = {accept}, .write = ld_outfile_write};
    struct ld_http *http;

    if (ld_cli_http(cli, &http, err) < 0 ||
        ld_outfile_open(to_stdout ? "-" : path, binary, progress, &sink, err) < 0)
        return -1;
    call.write_arg = sink;
    if (ld_http_run(http, &call, &reply, err) < 0)
        return -1;
    return ld_outfile_commit(sink, err);
}
