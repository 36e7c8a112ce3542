/* sid2 bench --against pytorch --rows inception,i3d: the networks that judge, of random weights, which both sides read. */
#include "bench.h"

#include "file.h"
#include "i3d.h"
#include "inception.h"
#include "params.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FRAMES = 16, PICTURES = 16 };

static bool write_weights(const char *path, bool is_i3d, sid2_error *err)
{
    const int side = is_i3d ? SID2_I3D_SIDE : SID2_INCEPTION_SIDE;
    sid2_graph *g = sid2_graph_create(SID2_F32);
    if (!g) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    sid2_params *params = sid2_graph_params(g, "", false);
    sid2_tensor x =
        sid2_graph_external(g, "x", SID2_F32, sid2_shape_of(1, is_i3d ? FRAMES : 1, side, side, 3));
    if (is_i3d)
        sid2_i3d_build(g, params, x, 1);
    else
        sid2_inception_build(g, params, x, 1, false);
    float *weights = sid2_graph_finish(g, err) ? sid2_params_initial(params, 0, err) : NULL;
    bool ok = weights && sid2_params_save(NULL, 1, path, params,
                                          &(sid2_params_part){.prefix = "", .flat = weights}, 1, NULL, err);
    free(weights);
    sid2_graph_destroy(g);
    return ok;
}

static bool compare_judge(const bench_job *j, const char *folder, const char *network, sid2_error *err)
{
    const bool is_i3d = strcmp(network, "i3d") == 0;
    bench_job own = *j;
    char path[4096], name[64];
    own.batch = j->own_batch ? j->own_batch : is_i3d ? 1 : PICTURES;
    snprintf(name, sizeof name, "%s, batch %lld", is_i3d ? "I3D, 16 frames" : "Inception",
             (long long)own.batch);
    if (!sid2_path(path, err, "%s/%s.safetensors", folder, network) || !write_weights(path, is_i3d, err))
        return false;
    return bench_compare(&own, name, "f32", is_i3d ? "clips/s" : "images/s",
                         bench_request_on(&own, "f32",
                                          json_pack("{s:s, s:s, s:s, s:i, s:I}", "mode", "judge", "network",
                                                    network, "weights", path, "frames", is_i3d ? FRAMES : 1,
                                                    "batch", (json_int_t)own.batch)),
                         err);
}

bool bench_judges(const bench_job *j, sid2_error *err)
{
    static const char *const networks[] = {"inception", "i3d"};
    char folder[4096];
    bool ok = true;
    if (!sid2_scratch_folder(folder, err)) return false;
    for (int i = 0; i < 2; i++)
        if (ok && bench_wants(j->rows, networks[i])) ok = compare_judge(j, folder, networks[i], err);
    sid2_remove_tree(folder, NULL);
    return ok;
}
