/* How pictures were made: as texts in their files, as a command that makes them again, and read back from a file. */
#ifndef SID2_CLI_RECIPE_H
#define SID2_CLI_RECIPE_H

#include "options.h"

/* What all pictures of a model share, as they are made now. */
typedef struct recipe {
    const char *model; /* the checkpoint or run, as the request named it */
    char digest[33];   /* of its weights */
    const char *guide; /* likewise, the checkpoint that guides it; NULL: none */
    char guide_digest[33];
    const char *given; /* what clips begin with, as the request named it; NULL: nothing */
    const sid2_config *config;
    const sid2_classes *names;
    const sid2_device_info *device;
    int64_t threads; /* as asked for; 0: all */
    bool raw;
} recipe;

/* One file's share of them. */
typedef struct shown {
    const char *seeds; /* as --seeds takes them */
    uint64_t first_seed;
    const int32_t *labels; /* count */
    size_t count;
    int width, height, channels; /* of one */
    const char *classes;         /* of several, as --class took them; NULL: drawn from the seeds */
    int64_t columns;             /* of several; 0: one */
    int quality;                 /* 0: of the format's own choice */
    int frames;                  /* of an animation, else 0 */
    size_t given_first;          /* the number of the video that the first begins with */
    const char *given_digest;    /* of the frames that they begin with */
} shown;

/* The texts of such a file: our own keys, and `parameters`, the line that other programs read. Free with
 * sid2_png_text_free. */
bool recipe_texts(const recipe *r, const shown *s, sid2_png_text **texts, size_t *count, sid2_error *err);

/* What a file's texts say of it; the strings are the texts'. */
typedef struct recipe_found {
    sid2_png_text *texts;
    size_t count;
    const char *model, *digest, *guide, *guide_digest, *given, *seeds,
        *classes;    /* classes: as --class takes them; NULL: drawn from the seeds */
    char number[32]; /* where classes may lie */
    int64_t columns, channels, quality, frames, given_first; /* 0: not said */
    bool raw;
    assignments set;
} recipe_found;

/* FORMAT: it says nothing that sid2 could make it from again. Free in any case. */
bool recipe_read(recipe_found *found, const char *path, sid2_error *err);
void recipe_free(recipe_found *found);
/* How the texts of a picture made now differ from those found, "Steps was 20 and is 10; ..."; "": not at all. */
void recipe_differences(const recipe_found *found, const sid2_png_text *texts, size_t count, char text[1024]);

/* The command that makes one picture again, as a shell takes it; the caller frees. NULL: no memory. */
char *recipe_command(const recipe *r, const shown *s, const char *out);

#endif
