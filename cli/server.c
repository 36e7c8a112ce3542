#include "cli.h"

#include "json.h"
#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum {
    TOKEN_BYTES = 16,
    MOST_CONNECTIONS = 32,
    MOST_WISHES = 16,
    MOST_BODY = 4096,
    IDLE_SECONDS = 30,
    PULSE_SECONDS = 1
};

extern const char view_html[], view_css[], view_js[];

/* Lives as long as its connection or the main thread needs it. */
struct wish {
    server *server;
    json_t *settings;
    wish *next; /* in the queue */
    bool wanted, in_hand, done;
    uint8_t *event; /* to be sent next: both parts behind their lengths */
    size_t event_size;
    uint8_t *sending; /* the connection's own */
    size_t sending_size, sent;
};

struct server {
    struct MHD_Daemon *daemon;
    char token[2 * TOKEN_BYTES + 1], address[128], host[2][32]; /* host: as a browser calls this machine */
    char *model;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    wish *queue; /* the first comes next */
    int wishes;  /* all that there are */
    bool stopping;
};

/* ---- Wishes, with the mutex held ---- */

static void free_wish(wish *w)
{
    w->server->wishes--;
    json_decref(w->settings);
    free(w->event);
    free(w->sending);
    free(w);
}

static void unqueue(server *s, const wish *w)
{
    for (wish **at = &s->queue; *at; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            return;
        }
}

static struct timespec from_now(double seconds)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    long nanoseconds = until.tv_nsec + (long)(1e9 * seconds);
    return (struct timespec){until.tv_sec + nanoseconds / 1000000000, nanoseconds % 1000000000};
}

/* Whether it is not `until` yet. */
static bool wait_for_change(server *s, const struct timespec *until)
{
    return pthread_cond_timedwait(&s->changed, &s->mutex, until) == 0;
}

/* ---- The main thread ---- */

wish *server_next(server *s)
{
    pthread_mutex_lock(&s->mutex);
    const struct timespec until = from_now(0.2);
    while (!s->queue && wait_for_change(s, &until)) continue;
    wish *w = s->queue;
    if (w) {
        s->queue = w->next;
        w->in_hand = true;
    }
    pthread_mutex_unlock(&s->mutex);
    return w;
}

const json_t *wish_settings(const wish *w) { return w->settings; }

bool wish_is_void(server *s, const wish *w)
{
    pthread_mutex_lock(&s->mutex);
    bool is_void = !w->wanted;
    pthread_mutex_unlock(&s->mutex);
    return is_void;
}

static uint8_t *put_part(uint8_t *to, const void *bytes, size_t size)
{
    for (int i = 0; i < 4; i++) *to++ = (uint8_t)(size >> (24 - 8 * i));
    if (size) memcpy(to, bytes, size);
    return to + size;
}

void wish_tell(server *s, wish *w, json_t *event, const uint8_t *png, size_t png_size)
{
    char *text = event ? json_dumps(event, JSON_COMPACT) : NULL;
    json_decref(event);
    size_t length = text ? strlen(text) : 0, size = length + png_size + 8;
    uint8_t *bytes = text ? malloc(size) : NULL;
    if (bytes) put_part(put_part(bytes, text, length), png, png_size);
    free(text);
    if (!bytes) return; /* the page learns of the next step, or that the answer has ended */
    pthread_mutex_lock(&s->mutex);
    free(w->event);
    w->event = bytes;
    w->event_size = size;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->mutex);
}

void wish_done(server *s, wish *w)
{
    pthread_mutex_lock(&s->mutex);
    w->in_hand = false;
    w->done = true;
    if (!w->wanted) free_wish(w);
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->mutex);
}

/* ---- Connections, each in a thread of its own ---- */

/* Waits for the next event; where none comes for a while, an empty one shows whether anybody is still there. */
static ssize_t read_events(void *user, uint64_t position, char *to, size_t room)
{
    (void)position;
    wish *w = user;
    server *s = w->server;
    if (w->sent == w->sending_size) {
        free(w->sending);
        w->sending = NULL;
        w->sending_size = w->sent = 0;
        pthread_mutex_lock(&s->mutex);
        const struct timespec until = from_now(PULSE_SECONDS);
        while (!w->event && !w->done && !s->stopping && wait_for_change(s, &until)) continue;
        bool over = !w->event && (w->done || s->stopping);
        w->sending = w->event;
        w->sending_size = w->event_size;
        w->event = NULL;
        pthread_mutex_unlock(&s->mutex);
        if (over) return MHD_CONTENT_READER_END_OF_STREAM;
        if (!w->sending) {
            if (!(w->sending = calloc(1, 8))) return MHD_CONTENT_READER_END_WITH_ERROR;
            w->sending_size = 8;
        }
    }
    size_t size = w->sending_size - w->sent < room ? w->sending_size - w->sent : room;
    memcpy(to, w->sending + w->sent, size);
    w->sent += size;
    return (ssize_t)size;
}

static void end_events(void *user)
{
    wish *w = user;
    server *s = w->server;
    pthread_mutex_lock(&s->mutex);
    w->wanted = false;
    if (!w->in_hand) {
        unqueue(s, w);
        free_wish(w);
    }
    pthread_mutex_unlock(&s->mutex);
}

/* For every answer: nothing from elsewhere, nothing kept, no frame around it, and its address told to nobody. */
static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status,
                              struct MHD_Response *response, const char *type)
{
    static const char *const headers[][2] = {
        {"Content-Security-Policy",
         "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src "
         "'self'; "
         "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
        {"X-Content-Type-Options", "nosniff"},
        {"Referrer-Policy", "no-referrer"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
        {"Cache-Control", "no-store"},
    };
    if (!response) return MHD_NO;
    bool ok = MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type) == MHD_YES;
    for (size_t i = 0; ok && i < sizeof headers / sizeof headers[0]; i++)
        ok = MHD_add_response_header(response, headers[i][0], headers[i][1]) == MHD_YES;
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        ok = ok && MHD_add_response_header(response, "Allow", "GET, POST") == MHD_YES;
    enum MHD_Result result = ok ? MHD_queue_response(connection, status, response) : MHD_NO;
    MHD_destroy_response(response);
    return result;
}

/* `text` outlives the answer. */
static enum MHD_Result answer_text(struct MHD_Connection *connection, unsigned status, const char *type,
                                   const char *text)
{
    return answer(connection, status,
                  MHD_create_response_from_buffer(strlen(text), (void *)text, MHD_RESPMEM_PERSISTENT), type);
}

static enum MHD_Result refuse(struct MHD_Connection *connection, unsigned status, const char *why)
{
    return answer_text(connection, status, "text/plain; charset=utf-8", why);
}

/* A page from elsewhere that a browser on this machine shows may send requests here, also under a name of its own that it
 * lets mean this machine; it cannot choose what these headers say. */
static bool is_own(const server *s, struct MHD_Connection *connection)
{
#define HEADER(name) MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name)
    const char *host = HEADER(MHD_HTTP_HEADER_HOST), *origin = HEADER("Origin"),
               *site = HEADER("Sec-Fetch-Site");
#undef HEADER
    if (!host || (strcmp(host, s->host[0]) != 0 && strcmp(host, s->host[1]) != 0)) return false;
    if (origin && (strncmp(origin, "http://", 7) != 0 || strcmp(origin + 7, host) != 0)) return false;
    return !site || strcmp(site, "same-origin") == 0 || strcmp(site, "none") == 0;
}

/* What stands behind "/TOKEN/", or NULL. Takes as long for any wrong token. */
static const char *behind_token(const server *s, const char *url)
{
    unsigned other = 0;
    if (strlen(url) < 2 * TOKEN_BYTES + 2 || url[0] != '/' || url[2 * TOKEN_BYTES + 1] != '/') return NULL;
    for (int i = 0; i < 2 * TOKEN_BYTES; i++) other |= (unsigned)(url[i + 1] ^ s->token[i]);
    return other ? NULL : url + 2 * TOKEN_BYTES + 2;
}

typedef struct upload {
    size_t size;
    char body[MOST_BODY];
} upload;

static bool are_strings(json_t *object)
{
    const char *key;
    json_t *value;
    if (!json_is_object(object)) return false;
    json_object_foreach(object, key, value) if (!json_is_string(value)) return false;
    return true;
}

static enum MHD_Result take_wish(server *s, struct MHD_Connection *connection, const upload *u)
{
    json_error_t problem;
    json_t *settings = sid2_json_read(u->body, u->size, 0, &problem);
    if (!settings || !are_strings(settings)) {
        json_decref(settings);
        return refuse(connection, MHD_HTTP_BAD_REQUEST, "the request is no object of strings");
    }
    pthread_mutex_lock(&s->mutex);
    bool room = s->wishes < MOST_WISHES && !s->stopping;
    wish *w = room ? calloc(1, sizeof *w) : NULL;
    if (w) {
        *w = (wish){.server = s, .settings = settings, .wanted = true};
        s->wishes++;
    }
    pthread_mutex_unlock(&s->mutex);
    if (!w) {
        json_decref(settings);
        return refuse(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "too many pictures are asked for at once");
    }
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 32768, read_events, w, end_events);
    pthread_mutex_lock(&s->mutex);
    if (!response) /* else it is end_events's to free */
        free_wish(w);
    else {
        wish **last = &s->queue;
        while (*last) last = &(*last)->next;
        *last = w;
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->mutex);
    return answer(connection, MHD_HTTP_OK, response, "application/octet-stream");
}

static enum MHD_Result serve_get(const server *s, struct MHD_Connection *connection, const char *path)
{
    const struct {
        const char *path, *type, *text;
    } files[] = {{"", "text/html; charset=utf-8", view_html},
                 {"view.css", "text/css; charset=utf-8", view_css},
                 {"view.js", "text/javascript; charset=utf-8", view_js},
                 {"model", "application/json", s->model}};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (strcmp(path, files[i].path) == 0)
            return answer_text(connection, MHD_HTTP_OK, files[i].type, files[i].text);
    return refuse(connection, MHD_HTTP_NOT_FOUND, "there is no such page");
}

/* Called first with the headers alone, then with each piece of a body, last without any. `state`: the upload, if any. */
static enum MHD_Result serve(void *user, struct MHD_Connection *connection, const char *url,
                             const char *method, const char *version, const char *body, size_t *body_size,
                             void **state)
{
    server *s = user;
    upload *u = *state;
    (void)version;
    if (!u) {
        const char *path = behind_token(s, url);
        bool post = strcmp(method, "POST") == 0;
        if (!is_own(s, connection))
            return refuse(connection, MHD_HTTP_FORBIDDEN, "this address is for its own page");
        if (!path) return refuse(connection, MHD_HTTP_NOT_FOUND, "open the address that sid2 view printed");
        if (!post && strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
            return refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET or POST");
        if (!post) return serve_get(s, connection, path);
        if (strcmp(path, "sample") != 0)
            return refuse(connection, MHD_HTTP_NOT_FOUND, "there is no such page");
        const char *type =
            MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_TYPE);
        if (!type || strcmp(type, "application/json") != 0)
            return refuse(connection, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, "the request should be JSON");
        *state = calloc(1, sizeof *u);
        return *state ? MHD_YES : MHD_NO;
    }
    if (!*body_size)
        return u->size > sizeof u->body
                   ? refuse(connection, MHD_HTTP_CONTENT_TOO_LARGE, "the request is too long")
                   : take_wish(s, connection, u);
    if (u->size <= sizeof u->body) {
        size_t room = sizeof u->body - u->size;
        memcpy(u->body + u->size, body, *body_size < room ? *body_size : room);
        u->size = *body_size <= room ? u->size + *body_size : sizeof u->body + 1;
    }
    *body_size = 0;
    return MHD_YES;
}

static void forget_upload(void *user, struct MHD_Connection *connection, void **state,
                          enum MHD_RequestTerminationCode why)
{
    (void)user;
    (void)connection;
    (void)why;
    free(*state);
    *state = NULL;
}

/* ---- The server ---- */

static bool draw_token(server *s, sid2_error *err)
{
    uint8_t bytes[TOKEN_BYTES];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return sid2_fail(err, SID2_ERR_IO, "the system gives no random numbers: %s", strerror(errno));
    for (int i = 0; i < TOKEN_BYTES; i++) snprintf(s->token + 2 * i, 3, "%02x", bytes[i]);
    return true;
}

static bool listen_on(server *s, int port, sid2_error *err)
{
    const struct sockaddr_in loopback = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    errno = 0;
    s->daemon = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION, (uint16_t)port, NULL, NULL, serve, s,
        MHD_OPTION_SOCK_ADDR, &loopback, MHD_OPTION_CONNECTION_LIMIT, (unsigned)MOST_CONNECTIONS,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)65536, MHD_OPTION_NOTIFY_COMPLETED, forget_upload, NULL, MHD_OPTION_END);
    const union MHD_DaemonInfo *bound =
        s->daemon ? MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_BIND_PORT) : NULL;
    if (!bound)
        return sid2_fail(err, SID2_ERR_IO, "port %d of 127.0.0.1: %s", port,
                         errno ? strerror(errno) : "it cannot be listened on");
    snprintf(s->host[0], sizeof s->host[0], "127.0.0.1:%d", bound->port);
    snprintf(s->host[1], sizeof s->host[1], "localhost:%d", bound->port);
    snprintf(s->address, sizeof s->address, "http://%s/%s/", s->host[0], s->token);
    return true;
}

server *server_start(int port, json_t *model, sid2_error *err)
{
    server *s = calloc(1, sizeof *s);
    if (s) {
        pthread_mutex_init(&s->mutex, NULL);
        pthread_condattr_t steady;
        pthread_condattr_init(&steady);
        pthread_condattr_setclock(&steady, CLOCK_MONOTONIC);
        pthread_cond_init(&s->changed, &steady);
        pthread_condattr_destroy(&steady);
        s->model = model ? json_dumps(model, JSON_COMPACT) : NULL;
    }
    json_decref(model);
    bool ok = (s && s->model) || sid2_fail(err, SID2_ERR_MEMORY, "out of memory for the page");
    if (ok && draw_token(s, err) && listen_on(s, port, err)) return s;
    server_stop(s);
    return NULL;
}

const char *server_address(const server *s) { return s->address; }

void server_stop(server *s)
{
    if (!s) return;
    pthread_mutex_lock(&s->mutex);
    s->stopping = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->mutex);
    if (s->daemon) MHD_stop_daemon(s->daemon);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->mutex);
    free(s->model);
    free(s);
}
