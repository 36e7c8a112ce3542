/* Inside sid2: what data sets have beside their public face. */
#ifndef SID2_DATA_DATASET_H
#define SID2_DATA_DATASET_H

#include <sid2/data.h>

#include "group.h"
#include "image.h"
#include "losses.h"

/* Frames of a clip where nothing says how many, and the most there are. */
enum { SID2_CLIP_FRAMES = 16, SID2_CLIP_MOST_FRAMES = 4096 };

/* What looking at a data set finds of a picture. */
typedef struct sid2_finding {
    bool is_readable; /* else reported as broken, and `pixels` mean nothing */
    bool is_turned;   /* its EXIF asks to show it rotated or mirrored */
    int32_t label;
} sid2_finding;

/* Decodes picture `index` itself: past the cache, and no other stands in. Fails only where memory does. */
bool sid2_dataset_inspect(sid2_dataset *dataset, int64_t index, uint8_t *pixels, sid2_finding *finding,
                          sid2_error *err);

/* Rows, columns and channels of picture `index` as it lies there, before it is cropped and resized. */
bool sid2_dataset_extents(sid2_dataset *dataset, int64_t index, int32_t extents[3], sid2_error *err);

/* Videos of all clips, those too short for any among them. */
int64_t sid2_dataset_videos(const sid2_dataset *dataset);
/* The number of the video that clip `index` is of, among all. */
int64_t sid2_dataset_video(const sid2_dataset *dataset, int64_t index);
/* Frames in so many seconds, as the first video says; 0, 0: it does not, or these are pictures. */
void sid2_dataset_rate(const sid2_dataset *dataset, int32_t rate[2]);

/* CLASS/VIDEO@NUMBER, the class where there are several, the number that of the clip's first frame; no '/' in either. The
 * caller frees; NULL without memory. */
char *sid2_dataset_clip_name(const sid2_dataset *dataset, int64_t index);
/* A file `name` in the folder of clip `index`, the caller's to free, and the number among that folder's frames of the clip's
 * first. NULL, USAGE: there is none. */
uint8_t *sid2_dataset_read_beside(const sid2_dataset *dataset, int64_t index, const char *name, size_t *size,
                                  int64_t *first, sid2_error *err);

/* sid2_dataset_loss into a line of the caller's, so that no want of memory hides one; false past the last. */
bool sid2_dataset_loss_line(sid2_dataset *dataset, int number, char line[SID2_LOSS_LINE]);

/* Over a source that is open already, called `name` in messages. Takes the source, on failure too. */
struct sid2_source;
sid2_dataset *sid2_dataset_adopt(struct sid2_source *source, const char *name, sid2_dataset_options options,
                                 sid2_error *err);

/* sid2_dataset_open, by all ranks of a group (NULL: alone) with the same options: rank 0 lists a folder for all of them. */
sid2_dataset *sid2_dataset_open_together(sid2_group *group, const char *path,
                                         const sid2_dataset_options *options, sid2_error *err);
/* Another part of a data set that is open and stays so meanwhile, with the same options; nothing is listed again. */
sid2_dataset *sid2_dataset_part_of(const sid2_dataset *whole, const char *name, sid2_part part,
                                   sid2_error *err);

/* Bytes of a sample of this type. */
size_t sid2_sample_bytes(sid2_sample_type type);

#endif
