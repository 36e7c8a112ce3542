/* A main for fuzz.c without libFuzzer: reads the files in the folders given, each cut short in a few places too. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "file.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int main(int argc, char **argv)
{
    LLVMFuzzerInitialize(&argc, &argv);
    int files = 0;
    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        if (!folder) return fprintf(stderr, "no folder %s\n", argv[i]), 1;
        for (struct dirent *entry; (entry = readdir(folder));) {
            char path[4096];
            size_t size;
            sid2_error err;
            if (entry->d_name[0] == '.' || !sid2_path(path, NULL, "%s/%s", argv[i], entry->d_name)) continue;
            uint8_t *bytes = sid2_file_read(path, 1 << 24, &size, &err);
            if (!bytes) return fprintf(stderr, "%s\n", err.message), 1;
            fprintf(stderr, "%s\n", path); /* the last line names the culprit */
            for (size_t part = 0; part <= 8; part++) {
                uint8_t *copy = malloc(size * part / 8 + !size); /* exact, so that reading past it shows */
                for (size_t b = 0; copy && b < size * part / 8; b++) copy[b] = bytes[b];
                LLVMFuzzerTestOneInput(copy, size * part / 8);
                free(copy);
            }
            free(bytes);
            files++;
        }
        closedir(folder);
    }
    printf("%d files read\n", files);
    return files ? 0 : 1;
}
