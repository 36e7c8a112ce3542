// A whole run from C++: pictures on the disk, a training in a folder that can be gone on from, samples of its
// newest checkpoint. Handles are owned by unique_ptr, errors become exceptions.
//
//     c++ -std=c++17 run_and_sample.cpp $(pkg-config --cflags --libs sid2) && ./a.out FOLDER samples.png
#include <sid2/sid2.h>

#include <clocale>
#include <cstdint>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace
{

template <auto destroy> struct deleter {
    template <typename type> void operator()(type *handle) const { destroy(handle); }
};
using config_ptr = std::unique_ptr<sid2_config, deleter<sid2_config_destroy>>;
using device_ptr = std::unique_ptr<sid2_device, deleter<sid2_device_close>>;
using run_ptr = std::unique_ptr<sid2_run, deleter<sid2_run_close>>;
using sampler_ptr = std::unique_ptr<sid2_sampler, deleter<sid2_sampler_destroy>>;

sid2_error error;

template <typename result> result must(result value)
{
    if (!value) throw std::runtime_error(error.message);
    return value;
}

bool on_event(void *, const sid2_run_event *event)
{
    if (event->kind == SID2_RUN_STEP && event->progress->step % 5 == 0)
        std::cout << "step " << event->progress->step << ", loss " << event->progress->loss << "\n";
    if (event->kind == SID2_RUN_WARNING) std::cerr << event->text << "\n";
    return true; // false would stop, with a checkpoint to go on from
}

void train(sid2_device *device, const std::string &folder)
{
    const std::string data = folder + "/pictures.zip", run_folder = folder + "/run";
    must(sid2_synth_write(data.c_str(), 64, 32, 1, nullptr, &error));
    config_ptr config(must(sid2_config_create()));
    must(sid2_config_preset(config.get(), "quickstart", &error));
    for (const char *setting : {"train.steps=20", "train.batch=8", "sample.steps=4", "train.sample_every=0"})
        must(sid2_config_set(config.get(), setting, &error));
    sid2_run_options options = SID2_INIT(sid2_run_options);
    options.path = run_folder.c_str();
    options.config = config.get();
    options.data = data.c_str();
    options.callback = on_event;
    run_ptr run(must(sid2_run_open(&options, &error)));
    must(sid2_run_train(run.get(), device, &error));
}

void sample(sid2_device *device, const std::string &run_folder, const std::string &path)
{
    char checkpoint[4096];
    config_ptr config(must(sid2_config_create()));
    must(sid2_checkpoint_find(run_folder.c_str(), checkpoint, sizeof checkpoint, &error));
    must(sid2_checkpoint_config(checkpoint, config.get(), &error));
    sid2_config_settle_sample(config.get(), device);
    sampler_ptr sampler(must(sid2_sampler_create(device, config.get(), 0, &error)));
    must(sid2_sampler_load(sampler.get(), checkpoint, true, &error));

    const int size = sid2_config_image_size(config.get()),
              channels = sid2_config_image_channels(config.get());
    const std::vector<std::uint64_t> seeds = {1, 2, 3, 4};
    std::vector<std::int32_t> labels(seeds.size(), -1); // drawn from the seeds
    std::vector<std::uint8_t> pixels(seeds.size() * size * size * channels);
    must(sid2_sampler_run(sampler.get(), seeds.data(), labels.data(), static_cast<int>(seeds.size()),
                          pixels.data(), nullptr, nullptr, &error));
    sid2_image grid = sid2_image();
    must(sid2_image_grid(&grid, pixels.data(), static_cast<int>(seeds.size()), size, size, channels, 0, 2,
                         255, &error));
    const bool written = sid2_png_write(path.c_str(), &grid, nullptr, 0, &error);
    sid2_image_free(&grid);
    must(written);
}

} // namespace

int main(int argc, char **argv)
{
    std::setlocale(LC_ALL, ""); // libsid2 reads and writes numbers as ever
    try {
        const std::string folder = argc > 1 ? argv[1] : ".", path = argc > 2 ? argv[2] : "samples.png";
        device_ptr device(must(sid2_device_open("cpu", nullptr, &error)));
        train(device.get(), folder);
        sample(device.get(), folder + "/run", path);
        std::cout << path << ": made by libsid2 " << sid2_version() << "\n";
        return 0;
    } catch (const std::exception &problem) {
        std::cerr << "run_and_sample: " << problem.what() << "\n";
        return 1;
    }
}
