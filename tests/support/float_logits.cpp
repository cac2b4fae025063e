// Float logits of a Swin checkpoint, for tests that have another implementation to compare with.
//
// usage: float_logits CHECKPOINT PIXELS HEIGHT WIDTH LOGITS
// PIXELS: RGB of any number of images, [height, width, 3] bytes each; LOGITS: float32, [images,
// classes].
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "converters/float_executor.h"
#include "converters/float_import.h"
#include "graph/error.h"

namespace intaglio::test {
namespace {

int run(const std::vector<std::string>& arguments) {
  if (arguments.size() != 5) {
    std::fputs("usage: float_logits CHECKPOINT PIXELS HEIGHT WIDTH LOGITS\n", stderr);
    return 2;
  }
  Swin swin = import_float(Checkpoint::open(arguments[0]), {}).swin();
  swin.image_height = std::stoul(arguments[2]);
  swin.image_width = std::stoul(arguments[3]);
  std::ifstream file(arguments[1], std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  const std::vector<std::uint8_t> pixels(bytes.begin(), bytes.end());
  const std::size_t images = pixels.size() / (3 * swin.image_height * swin.image_width);
  const Network network = network_of(std::move(swin));
  const std::vector<float> logits = FloatExecutor(network).run(pixels, images);
  std::ofstream out(arguments[4], std::ios::binary);
  out.write(reinterpret_cast<const char*>(logits.data()),
            static_cast<std::streamsize>(logits.size() * sizeof(float)));
  return out.flush() ? 0 : 1;
}

}  // namespace
}  // namespace intaglio::test

int main(int argc, char** argv) {
  try {
    return intaglio::test::run({argv + 1, argv + argc});
  } catch (const std::exception& e) {
    std::fprintf(stderr, "float_logits: %s\n", e.what());
    return 4;
  }
}
