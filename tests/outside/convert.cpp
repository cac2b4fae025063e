// An application that makes models: convert CHECKPOINT MODEL.intg [IMAGE...]
//
// With images the checkpoint is of floats, without it is calibrated. The model is loaded before it
// is written, and an error is caught as what it is.
#include <intaglio/convert.h>
#include <intaglio/intaglio.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <vector>

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  try {
    const std::vector<std::filesystem::path> images(argv + 3, argv + argc);
    const std::vector<std::byte> model =
        images.empty() ? intaglio::import_calibrated(argv[1]) : intaglio::quantize(argv[1], images);
    std::printf("%zu classes\n", intaglio::Model::parse(model, argv[2]).classes());
    std::ofstream(argv[2], std::ios::binary)
        .write(reinterpret_cast<const char*>(model.data()), std::streamsize(model.size()));
  } catch (const intaglio::Error& e) {
    std::fprintf(stderr, "convert: error %d: %s\n", static_cast<int>(e.code()), e.what());
    return 1;
  }
  try {
    (void)intaglio::import_calibrated("nowhere");
  } catch (const intaglio::Error& e) {
    std::printf("error %d\n", static_cast<int>(e.code()));
    return 0;
  }
  return 1;
}
