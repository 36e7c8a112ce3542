/* The page of sid2 view, served on the loopback address by libmicrohttpd, to who knows its address: that has a random
 * token in it. A browser asks for pictures and is told of their steps; the main thread makes them. */
#ifndef SID2_CLI_SERVER_H
#define SID2_CLI_SERVER_H

#include <jansson.h>

#include "base.h"

typedef struct server server;

/* `model`: what the page is told of the model, the server's from here on. port 0: a free one. */
server *server_start(int port, json_t *model, sid2_error *err);
/* Ends the answers that are under way. NULL is fine. */
void server_stop(server *s);
/* "http://127.0.0.1:4711/TOKEN/" */
const char *server_address(const server *s);

/* ---- The main thread ---- One picture at a time, in the order they were asked for. */
typedef struct wish wish;

/* The next wish, or NULL after a moment without any. */
wish *server_next(server *s);
/* What it asks for: an object of strings. */
const json_t *wish_settings(const wish *w);
/* Whether nobody waits for it any more. */
bool wish_is_void(server *s, const wish *w);
/* Tells the page: an event (taken over; NULL: no memory), and a PNG (copied) if png_size. An event that the page has not
 * fetched gives way to the next one. */
void wish_tell(server *s, wish *w, json_t *event, const uint8_t *png, size_t png_size);
/* After the last event. */
void wish_done(server *s, wish *w);

#endif
