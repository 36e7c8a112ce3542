/* A data set prepared once. Threads decode and encode; finished PNGs are appended to a file in the order in which they
 * come, each behind its number, size and digest. So a packing that was ended goes on behind the last whole one. The zip is
 * made of that file in the order of the pictures. */
#include "archive_write.h"
#include "dataset.h"
#include "digest.h"
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_THREADS = 256, HEAD = 160 };

/* Where a picture's PNG lies in the file. */
typedef struct place {
    uint64_t offset, size; /* 0: not there */
} place;

typedef struct record {
    uint64_t index, size;
    char digest[32];
} record;

typedef struct pack {
    sid2_dataset *dataset;
    const char *path;
    char part[4096];
    int descriptor;
    char head[HEAD]; /* of the file: what it is made of */
    int64_t count;
    place *places; /* count */

    atomic_llong next, done;
    atomic_bool stop;
    pthread_mutex_t lock; /* over the rest */
    uint64_t end;         /* of the file */
    int working;
    pthread_cond_t progress;
    bool failed;
    sid2_error error;
} pack;

static bool cannot(const char *path, sid2_error *err)
{
    return sid2_fail(err, SID2_ERR_IO, "%s: %s", path, strerror(errno));
}

/* ---- The file of finished pictures ---- */

static bool describe(pack *p, sid2_error *err)
{
    char digest[33];
    if (!sid2_dataset_digest(p->dataset, digest, err)) return false;
    const char *turning = sid2_dataset_turning(p->dataset);
    const int64_t *dim = sid2_dataset_type(p->dataset).shape.dim;
    snprintf(p->head, HEAD, "sid2 pack 1, %s, %lld pictures, %dx%dx%d, %s\n", digest, (long long)p->count,
             (int)dim[1], (int)dim[0], (int)dim[2], turning ? turning : "");
    return true;
}

/* Takes what was finished before; what follows the last whole record was being written. */
static bool take_finished(pack *p, uint64_t size, sid2_error *err)
{
    record r;
    char digest[33];
    while (p->end + sizeof r <= size) {
        if (!sid2_file_fill(p->descriptor, &r, sizeof r, p->end, p->part, err)) return false;
        uint64_t offset = p->end + sizeof r;
        if (r.index >= (uint64_t)p->count || r.size > SID2_IMAGE_MAX_FILE || r.size > size - offset) break;
        uint8_t *bytes = malloc(r.size + 1);
        if (!bytes) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", p->part);
        bool ok = sid2_file_fill(p->descriptor, bytes, r.size, offset, p->part, err);
        if (ok) sid2_digest_bytes(bytes, r.size, digest);
        free(bytes);
        if (!ok) return false;
        if (memcmp(digest, r.digest, sizeof r.digest) != 0) break;
        if (!p->places[r.index].size) atomic_fetch_add(&p->done, 1);
        p->places[r.index] = (place){offset, r.size};
        p->end = offset + r.size;
    }
    return !ftruncate(p->descriptor, (off_t)p->end) || cannot(p->part, err);
}

static bool open_part(pack *p, sid2_error *err)
{
    char head[HEAD] = {0};
    struct stat status;
    size_t length = strlen(p->head);
    p->descriptor = open(p->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
    if (p->descriptor < 0 || fstat(p->descriptor, &status)) return cannot(p->part, err);
    if (!S_ISREG(status.st_mode)) return sid2_fail(err, SID2_ERR_USAGE, "%s: is no file", p->part);
    if (flock(p->descriptor, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
        return sid2_fail(err, SID2_ERR_USAGE, "%s: another sid2 is packing into it", p->part);
    uint64_t size = (uint64_t)status.st_size;
    p->end = length;
    if (size < length) /* new, or ended before its first picture */
        return (!ftruncate(p->descriptor, 0) || cannot(p->part, err)) &&
               sid2_file_put(p->descriptor, p->head, length, 0, p->part, err);
    if (!sid2_file_fill(p->descriptor, head, length, 0, p->part, err)) return false;
    if (memcmp(head, p->head, length) != 0)
        return sid2_fail(err, SID2_ERR_USAGE,
                         "%s: is of other pictures, or packs them in another way: remove it", p->part);
    return take_finished(p, size, err);
}

static bool append(pack *p, int64_t index, const uint8_t *bytes, size_t size, sid2_error *err)
{
    char digest[33];
    record r = {.index = (uint64_t)index, .size = size};
    sid2_digest_bytes(bytes, size, digest);
    memcpy(r.digest, digest, sizeof r.digest);
    pthread_mutex_lock(&p->lock);
    uint64_t offset = p->end + sizeof r;
    bool ok = sid2_file_put(p->descriptor, &r, sizeof r, p->end, p->part, err) &&
              sid2_file_put(p->descriptor, bytes, size, offset, p->part, err);
    if (ok) {
        p->places[index] = (place){offset, size};
        p->end = offset + size;
    }
    pthread_mutex_unlock(&p->lock);
    return ok;
}

/* ---- Threads ---- */

static bool pack_one(pack *p, int64_t index, uint8_t *pixels, sid2_error *err)
{
    sid2_finding found;
    sid2_shape shape = sid2_dataset_type(p->dataset).shape;
    if (!sid2_dataset_inspect(p->dataset, index, pixels, &found, err)) return false;
    if (!found.is_readable) return true;
    uint8_t *bytes;
    size_t length;
    const sid2_image image = {.height = (int32_t)shape.dim[0],
                              .width = (int32_t)shape.dim[1],
                              .channels = (int32_t)shape.dim[2],
                              .pixels = pixels};
    if (!sid2_png_encode(&image, NULL, 0, &bytes, &length, err)) return false;
    bool ok = append(p, index, bytes, length, err);
    free(bytes);
    return ok;
}

static void *work(void *argument)
{
    pack *p = argument;
    sid2_error err = {0};
    uint8_t *pixels = malloc(sid2_sample_bytes(sid2_dataset_type(p->dataset)));
    bool ok = pixels || sid2_fail(&err, SID2_ERR_MEMORY, "no memory for a picture");
    while (ok && !atomic_load(&p->stop)) {
        int64_t index = atomic_fetch_add(&p->next, 1);
        if (index >= p->count) break;
        if (p->places[index].size) continue;
        ok = pack_one(p, index, pixels, &err);
        atomic_fetch_add(&p->done, 1);
    }
    free(pixels);
    pthread_mutex_lock(&p->lock);
    if (!ok && !p->failed) {
        p->failed = true;
        p->error = err;
    }
    if (!ok) atomic_store(&p->stop, true);
    p->working--;
    pthread_cond_signal(&p->progress);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static int processors(void)
{
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
    return count < MAX_THREADS ? count : MAX_THREADS;
}

/* Until all threads have ended, the caller's thread tells how far they are. */
static bool watch(pack *p, const sid2_pack_options *o)
{
    bool cancelled = false;
    pthread_mutex_lock(&p->lock);
    while (p->working) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 100000000;
        if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
        pthread_cond_timedwait(&p->progress, &p->lock, &until);
        if (!o->progress || cancelled) continue;
        pthread_mutex_unlock(&p->lock);
        cancelled = !o->progress(o->user, atomic_load(&p->done), p->count);
        if (cancelled) atomic_store(&p->stop, true);
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return !cancelled;
}

static bool run_threads(pack *p, const sid2_pack_options *o, sid2_error *err)
{
    pthread_t thread[MAX_THREADS];
    int wanted = o->threads > 0 ? o->threads : processors(), count = 0;
    if (wanted > MAX_THREADS) wanted = MAX_THREADS;
    p->working = wanted; /* no lock: none runs yet, or waits for it */
    pthread_mutex_lock(&p->lock);
    while (count < wanted && !pthread_create(&thread[count], NULL, work, p)) count++;
    p->working -= wanted - count;
    pthread_mutex_unlock(&p->lock);
    if (!count) return sid2_fail(err, SID2_ERR_MEMORY, "no thread to pack pictures");
    bool went_on = watch(p, o);
    for (int i = 0; i < count; i++) pthread_join(thread[i], NULL);
    if (p->failed) return sid2_fail(err, p->error.code, "%s", p->error.message);
    return went_on ||
           sid2_fail(err, SID2_ERR_CANCELLED, "stopped; the same command goes on from %s", p->part);
}

/* ---- The zip ---- */

static bool copy(pack *p, const place *at, sid2_archive *archive, const char *name, sid2_error *err)
{
    uint8_t *bytes = malloc(at->size);
    bool ok = (bytes || sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", p->path)) &&
              sid2_file_fill(p->descriptor, bytes, at->size, at->offset, p->part, err) &&
              sid2_archive_add(archive, name, bytes, at->size, err);
    free(bytes);
    return ok;
}

static bool write_zip(pack *p, sid2_error *err)
{
    sid2_edm edm;
    bool ok = sid2_edm_open(&edm, p->path, err);
    for (int64_t i = 0; ok && i < p->count; i++) {
        char name[SID2_EDM_NAME];
        const place *at = &p->places[i];
        if (!at->size) continue;
        ok = sid2_edm_next(&edm, sid2_dataset_label(p->dataset, i), name, err) &&
             copy(p, at, edm.archive, name, err);
    }
    if (ok && !json_array_size(edm.labels))
        ok = sid2_fail(err, SID2_ERR_FORMAT, "none of the %lld pictures can be read", (long long)p->count);
    for (int32_t k = 0; ok && k < sid2_dataset_classes(p->dataset); k++)
        ok = sid2_edm_name_class(&edm, sid2_dataset_class_name(p->dataset, k), err);
    if (ok) return sid2_edm_commit(&edm, err);
    sid2_edm_discard(&edm);
    return false;
}

bool sid2_dataset_pack(sid2_dataset *dataset, const char *path, const sid2_pack_options *given,
                       sid2_error *err)
{
    sid2_pack_options options;
    sid2_kind kind;
    if (!sid2_take_options(&options, given, sid2_pack_options, err) || !sid2_look(path, &kind, err))
        return false;
    if (kind != SID2_ABSENT) return sid2_fail(err, SID2_ERR_USAGE, "%s: exists; name a new one", path);
    pack p = {.dataset = dataset, .path = path, .descriptor = -1, .count = sid2_dataset_count(dataset)};
    if (!sid2_path(p.part, err, "%s.part", path) || !sid2_make_parents(path, err)) return false;
    pthread_mutex_init(&p.lock, NULL);
    pthread_cond_init(&p.progress, NULL);
    p.places = calloc((size_t)p.count, sizeof *p.places);
    bool ok = (p.places || sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path)) && describe(&p, err) &&
              open_part(&p, err) && run_threads(&p, &options, err) && write_zip(&p, err);
    if (ok) unlink(p.part);
    if (p.descriptor >= 0) close(p.descriptor);
    free(p.places);
    pthread_cond_destroy(&p.progress);
    pthread_mutex_destroy(&p.lock);
    return ok;
}
