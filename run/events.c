#include "events.h"

#include "event.pb-c.h"
#include "file.h"
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST_SCALARS = 32 };

/* ---- Records: length, its checksum, bytes, their checksum; all little-endian, as this machine is ---- */

/* CRC-32C, masked as the format wants it, so that checksums of checksums stay apart. */
static uint32_t checksum(const void *bytes, size_t size)
{
    const uint8_t *byte = bytes;
    uint32_t crc = ~UINT32_C(0);
    for (size_t i = 0; i < size; i++) {
        crc ^= byte[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (UINT32_C(0x82f63b78) & (0 - (crc & 1)));
    }
    crc = ~crc;
    return (crc >> 15 | crc << 17) + UINT32_C(0xa282ead8);
}

static bool write_record(sid2_events *e, const uint8_t *bytes, size_t size, sid2_error *err)
{
    uint64_t length = size;
    uint32_t of_length = checksum(&length, sizeof length), of_bytes = checksum(bytes, size);
    bool ok = fwrite(&length, sizeof length, 1, e->stream) == 1 &&
              fwrite(&of_length, sizeof of_length, 1, e->stream) == 1 &&
              fwrite(bytes, 1, size, e->stream) == size &&
              fwrite(&of_bytes, sizeof of_bytes, 1, e->stream) == 1 && !fflush(e->stream);
    return ok || sid2_fail(err, SID2_ERR_IO, "cannot write %s: %s", e->path, strerror(errno));
}

static bool write_event(sid2_events *e, Sid2__Event *event, sid2_error *err)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    event->wall_time = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    size_t size = sid2__event__get_packed_size(event);
    uint8_t *bytes = malloc(size);
    if (!bytes) return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", e->path);
    sid2__event__pack(event, bytes);
    bool ok = write_record(e, bytes, size, err);
    free(bytes);
    return ok;
}

/* ---- Files ---- */

/* A name that no other file has: TensorBoard reads all of a folder in order of their names. */
static bool create(sid2_events *e, const char *folder, sid2_error *err)
{
    enum { ATTEMPTS = 1000 };
    char host[65] = "";
    gethostname(host, sizeof host - 1);
    for (char *c = host; *c; c++)
        if (*c == '/') *c = '-';
    int descriptor = -1;
    for (int i = 0; descriptor < 0 && i < ATTEMPTS; i++) {
        if (!sid2_path(e->path, err, "%s/events.out.tfevents.%010lld.%s.%ld.%d", folder,
                       (long long)time(NULL), host, (long)getpid(), i))
            return false;
        descriptor = open(e->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (descriptor < 0 && errno != EEXIST) break;
    }
    e->stream = descriptor >= 0 ? fdopen(descriptor, "w") : NULL;
    if (e->stream) return true;
    sid2_fail(err, SID2_ERR_IO, "cannot write %s: %s", e->path, strerror(errno));
    if (descriptor >= 0) close(descriptor);
    return false;
}

bool sid2_events_open(sid2_events *e, const char *folder, uint64_t step, sid2_error *err)
{
    static char version[] = "brain.Event:2";
    Sid2__Event first = SID2__EVENT__INIT, start = SID2__EVENT__INIT;
    Sid2__SessionLog log = SID2__SESSION_LOG__INIT;
    first.what_case = SID2__EVENT__WHAT_FILE_VERSION;
    first.file_version = version;
    log.status = SID2__SESSION_LOG__STATUS__START;
    start.step = (int64_t)step + 1;
    start.what_case = SID2__EVENT__WHAT_SESSION_LOG;
    start.session_log = &log;
    *e = (sid2_events){0};
    bool ok = sid2_make_directories(folder, err) && create(e, folder, err) && write_event(e, &first, err) &&
              (!step || write_event(e, &start, err));
    if (!ok) sid2_events_close(e);
    return ok;
}

void sid2_events_close(sid2_events *e)
{
    if (e->stream) fclose(e->stream);
    e->stream = NULL;
}

static bool write_values(sid2_events *e, uint64_t step, Sid2__Value **values, size_t count, sid2_error *err)
{
    Sid2__Event event = SID2__EVENT__INIT;
    Sid2__Summary summary = SID2__SUMMARY__INIT;
    summary.value = values;
    summary.n_value = count;
    event.step = (int64_t)step;
    event.what_case = SID2__EVENT__WHAT_SUMMARY;
    event.summary = &summary;
    return write_event(e, &event, err);
}

bool sid2_events_scalars(sid2_events *e, uint64_t step, const sid2_scalar *scalars, int count,
                         sid2_error *err)
{
    Sid2__Value values[MOST_SCALARS], *list[MOST_SCALARS];
    char tags[MOST_SCALARS][sizeof scalars->tag];
    if (count > MOST_SCALARS) count = MOST_SCALARS;
    for (int i = 0; i < count; i++) {
        sid2__value__init(list[i] = &values[i]);
        strcpy(tags[i], scalars[i].tag);
        values[i].tag = tags[i];
        values[i].value_case = SID2__VALUE__VALUE_SIMPLE_VALUE;
        values[i].simple_value = (float)scalars[i].value;
    }
    return write_values(e, step, list, (size_t)count, err);
}

bool sid2_events_picture(sid2_events *e, uint64_t step, const char *tag, const char *png, sid2_error *err)
{
    size_t size;
    char name[64];
    uint8_t *bytes = sid2_file_read(png, (size_t)256 << 20, &size, err);
    sid2_image image = {0};
    bool ok = bytes && sid2_image_decode(&image, bytes, size, png, err);
    if (ok) {
        Sid2__Value value = SID2__VALUE__INIT, *list = &value;
        Sid2__Image picture = SID2__IMAGE__INIT;
        snprintf(name, sizeof name, "%s", tag);
        picture.width = image.width;
        picture.height = image.height;
        picture.colorspace = image.channels;
        picture.encoded_image_string.data = bytes;
        picture.encoded_image_string.len = size;
        value.tag = name;
        value.value_case = SID2__VALUE__VALUE_IMAGE;
        value.image = &picture;
        ok = write_values(e, step, &list, 1, err);
    }
    sid2_image_free(&image);
    free(bytes);
    return ok;
}
