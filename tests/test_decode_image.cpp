#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "engine/decode_image.h"
#include "graph/error.h"
#include "graph/safetensors.h"
#include "tests/support/shared_data.h"

namespace intaglio {
namespace {

using Buffer = std::vector<std::uint8_t>;

Buffer read_golden(const std::string& file) {
  std::ifstream stream(test::golden_path("decode") / file, std::ios::binary);
  REQUIRE(stream);
  return Buffer(std::istreambuf_iterator<char>(stream), {});
}

Image decode(const Buffer& bytes, const DecodeLimits& limits = {}) {
  // A copy of exactly this size: reading past it is seen by the address sanitizer.
  const Buffer exact(bytes);
  return decode_image(std::as_bytes(std::span(exact)), "test", limits);
}

struct Outcome {
  bool decoded = false;
  ErrorCode code{};
  std::string message;
};

/// Anything but an image or an Error fails the test by itself.
Outcome try_decode(const Buffer& bytes, const DecodeLimits& limits = {}) {
  try {
    const Image image = decode(bytes, limits);
    REQUIRE(image.pixels.size() == 3 * static_cast<std::size_t>(image.width) * image.height);
    return {true, {}, {}};
  } catch (const Error& error) {
    REQUIRE(std::strncmp(error.what(), "test: ", 6) == 0);
    return {false, error.code(), error.what()};
  }
}

bool fails_with(ErrorCode code, const Buffer& bytes, const DecodeLimits& limits = {}) {
  const Outcome outcome = try_decode(bytes, limits);
  UNSCOPED_INFO("message: " << outcome.message);
  return !outcome.decoded && outcome.code == code;
}

Buffer from_text(const std::string& text) {
  return Buffer(text.begin(), text.end());
}

void append(Buffer& buffer, std::uint32_t value, int count, bool big_endian) {
  for (int i = 0; i < count; ++i) {
    const int shift = 8 * (big_endian ? count - 1 - i : i);
    buffer.push_back(static_cast<std::uint8_t>(value >> shift));
  }
}

/// An EXIF block of one entry.
Buffer make_exif(bool big_endian, std::uint32_t tag, std::uint32_t type, std::uint32_t count,
                 std::uint32_t value, std::uint32_t directory = 8) {
  Buffer exif = from_text(big_endian ? "MM" : "II");
  append(exif, 42, 2, big_endian);
  append(exif, directory, 4, big_endian);
  append(exif, 1, 2, big_endian);
  append(exif, tag, 2, big_endian);
  append(exif, type, 2, big_endian);
  append(exif, count, 4, big_endian);
  append(exif, value, type == 3 ? 2 : 4, big_endian);
  append(exif, 0, type == 3 ? 2 : 0, big_endian);
  return exif;
}

Buffer jpeg_with_exif(const Buffer& exif) {
  Buffer segment{0xFF, 0xE1};
  append(segment, static_cast<std::uint32_t>(exif.size() + 8), 2, true);
  for (const char c : {'E', 'x', 'i', 'f', '\0', '\0'}) segment.push_back(c);
  segment.insert(segment.end(), exif.begin(), exif.end());
  Buffer jpeg = read_golden("grey.jpg");
  jpeg.insert(jpeg.begin() + 2, segment.begin(), segment.end());
  return jpeg;
}

/// The checksum of PNG, bit by bit.
std::uint32_t crc32(const Buffer& bytes) {
  std::uint32_t crc = 0xFFFFFFFF;
  for (const std::uint8_t byte : bytes) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
  }
  return ~crc;
}

/// The chunk stands behind the header, or before the end mark.
Buffer png_with_exif(const Buffer& exif, bool at_end) {
  Buffer body = from_text("eXIf");
  body.insert(body.end(), exif.begin(), exif.end());
  Buffer chunk;
  append(chunk, static_cast<std::uint32_t>(exif.size()), 4, true);
  chunk.insert(chunk.end(), body.begin(), body.end());
  append(chunk, crc32(body), 4, true);
  Buffer png = read_golden("grey.png");
  png.insert(at_end ? png.end() - 12 : png.begin() + 33, chunk.begin(), chunk.end());
  return png;
}

/// A BMP's headers, to be followed by palette and pixels.
Buffer bmp_header(int width, int height, int bits, int colors) {
  Buffer bmp = from_text("BM");
  for (int i = 0; i < 2; ++i) append(bmp, 0, 4, false);
  append(bmp, static_cast<std::uint32_t>(54 + 4 * colors), 4, false);
  append(bmp, 40, 4, false);
  append(bmp, static_cast<std::uint32_t>(width), 4, false);
  append(bmp, static_cast<std::uint32_t>(height), 4, false);
  append(bmp, 1, 2, false);
  append(bmp, static_cast<std::uint32_t>(bits), 2, false);
  for (int i = 0; i < 4; ++i) append(bmp, 0, 4, false);
  append(bmp, static_cast<std::uint32_t>(colors), 4, false);
  append(bmp, 0, 4, false);
  return bmp;
}

TEST_CASE("decoded images equal Pillow's", "[decode]") {
  const Safetensors golden = Safetensors::open(test::golden_path("decode/decoded.safetensors"));
  REQUIRE(golden.tensors().size() >= 40);
  for (const auto& [name, expected] : golden.tensors()) {
    INFO(name);
    if (name == "grey16.png") continue;  // the stated difference, below
    const std::size_t mark = name.find('#');
    const bool transposed = mark != std::string::npos;
    // Where there is no entry for the upright image the file carries no orientation.
    DecodeLimits limits;
    limits.apply_orientation = transposed || !golden.find(name + "#exif_transposed");
    const Image image = decode(read_golden(name.substr(0, mark)), limits);
    REQUIRE(expected.shape.size() == 3);
    CHECK(static_cast<std::size_t>(image.height) == expected.shape[0]);
    CHECK(static_cast<std::size_t>(image.width) == expected.shape[1]);
    CHECK((image.pixels == expected.to_vector<std::uint8_t>(name)));
  }
}

TEST_CASE("16-bit grey keeps the high byte where Pillow clips", "[decode]") {
  const Safetensors golden = Safetensors::open(test::golden_path("decode/decoded.safetensors"));
  const auto clipped = golden.at("grey16.png").to_vector<std::uint8_t>("grey16.png");
  const Image image = decode(read_golden("grey16.png"));
  REQUIRE(image.pixels.size() == clipped.size());
  bool consistent = true;
  for (std::size_t i = 0; i < clipped.size(); ++i) {
    // A sample above 255 was clipped; one below has a high byte of 0.
    consistent = consistent && (image.pixels[i] > 0 ? clipped[i] == 255 : true);
    consistent = consistent && (clipped[i] < 255 ? image.pixels[i] == 0 : true);
  }
  CHECK(consistent);
  CHECK(*std::max_element(image.pixels.begin(), image.pixels.end()) > 200);
}

TEST_CASE("EXIF orientation: both byte orders, nonsense is ignored", "[decode]") {
  const Image plain = decode(read_golden("grey.jpg"));
  REQUIRE(plain.width != plain.height);
  const auto turns = [&](const Buffer& exif) {
    const bool jpeg = decode(jpeg_with_exif(exif)).width == plain.height;
    for (const bool at_end : {false, true}) {
      CHECK((decode(png_with_exif(exif, at_end)).width == plain.height) == jpeg);
    }
    return jpeg;
  };
  for (const bool big_endian : {true, false}) {
    CHECK(turns(make_exif(big_endian, 0x0112, 3, 1, 6)));
    CHECK(turns(make_exif(big_endian, 0x0112, 4, 1, 6)));
    CHECK_FALSE(turns(make_exif(big_endian, 0x0113, 3, 1, 6)));
    CHECK_FALSE(turns(make_exif(big_endian, 0x0112, 2, 1, 6)));
    CHECK_FALSE(turns(make_exif(big_endian, 0x0112, 3, 2, 6)));
    for (const std::uint32_t directory : {0u, 9u, 20u, 0x7FFFFFFFu, 0xFFFFFFFFu}) {
      CHECK_FALSE(turns(make_exif(big_endian, 0x0112, 3, 1, 6, directory)));
    }
    for (const std::uint32_t value : {0u, 1u, 9u, 65535u}) {
      const Buffer jpeg = jpeg_with_exif(make_exif(big_endian, 0x0112, 3, 1, value));
      CHECK((decode(jpeg).pixels == plain.pixels));
    }
  }
}

TEST_CASE("BMP: palettes of every depth, both row orders", "[decode]") {
  for (const int bits : {1, 4, 8}) {
    for (const int height : {2, -2}) {
      Buffer bmp = bmp_header(3, height, bits, 2);
      append(bmp, 0x00102030, 4, false);
      append(bmp, 0x00405060, 4, false);
      // Rows of indices 0 1 1 and 1 0 0, the leftmost in the highest bits.
      const std::uint32_t rows[2] = {bits == 1   ? 0b01100000u
                                     : bits == 4 ? 0x1001u
                                                 : 0x010100u,
                                     bits == 1   ? 0b10000000u
                                     : bits == 4 ? 0x0010u
                                                 : 0x000001u};
      for (const std::uint32_t row : rows) append(bmp, row, 4, false);
      INFO("bits " << bits << ", height " << height);
      const Image image = decode(bmp);
      Buffer expected;
      for (const int first : height > 0 ? std::array{1, 0} : std::array{0, 1}) {
        for (const int index : {first, 1 - first, 1 - first}) {
          append(expected, index ? 0x405060 : 0x102030, 3, true);
        }
      }
      CHECK((image.pixels == expected));
    }
  }
  Buffer no_palette = bmp_header(1, 1, 8, 0);
  append(no_palette, 7, 4, false);
  CHECK((decode(no_palette).pixels == Buffer{0, 0, 0}));
}

TEST_CASE("PGM and PPM headers", "[decode]") {
  CHECK((decode(from_text("P5 2 1 255\nab")).pixels == from_text("aaabbb")));
  CHECK((decode(from_text("P6\n#comment\n1#two\n 1\t255 abc")).pixels == from_text("abc")));
  for (const char* text : {"P5", "P5 ", "P5 2", "P5 2 1 255", "P51 1 255 a", "P5 -1 1 255 a",
                           "P5 0 1 255 a", "P5 2 1 255 a", "P5 2 1 x", "P5 #", "P5 1 1 255a"}) {
    INFO(text);
    CHECK(fails_with(ErrorCode::kFormat, from_text(text)));
  }
  CHECK(fails_with(ErrorCode::kUnsupported, from_text("P5 1 1 65535 ab")));
  CHECK(fails_with(ErrorCode::kLimit, from_text("P5 99999 99999 255 ab")));
  CHECK(fails_with(ErrorCode::kLimit, from_text("P5 60000 60000 255 ab")));
  CHECK(fails_with(ErrorCode::kFormat, from_text("P5 99999999999999999999 1 255 ab")));
}

TEST_CASE("limits hold before pixels are decoded", "[decode]") {
  for (const char* file : {"rgb.png", "rgb.bmp", "rgb.ppm", "q75_ss2.jpg"}) {
    INFO(file);
    const Buffer bytes = read_golden(file);
    DecodeLimits limits;
    limits.max_pixels = 83 * 61;
    CHECK(try_decode(bytes, limits).decoded);
    limits.max_pixels -= 1;
    CHECK(fails_with(ErrorCode::kLimit, bytes, limits));
    limits = {};
    limits.max_file_bytes = bytes.size();
    CHECK(try_decode(bytes, limits).decoded);
    limits.max_file_bytes -= 1;
    CHECK(fails_with(ErrorCode::kLimit, bytes, limits));
    const auto path = test::golden_path("decode") / file;
    CHECK_THROWS_AS(load_image(path, limits), Error);
  }
  // A header alone, that claims the largest sides a JPEG can have.
  Buffer bomb = read_golden("q75_ss2.jpg");
  const std::uint8_t start_of_frame[] = {0xFF, 0xC0, 0x00, 0x11, 0x08};
  const auto at =
      std::search(bomb.begin(), bomb.end(), std::begin(start_of_frame), std::end(start_of_frame));
  REQUIRE(at != bomb.end());
  std::fill_n(at + 5, 4, std::uint8_t{0xFF});
  CHECK(fails_with(ErrorCode::kLimit, bomb));
  std::fill_n(at + 5, 2, std::uint8_t{0});
  CHECK(fails_with(ErrorCode::kFormat, bomb));
  CHECK(fails_with(ErrorCode::kLimit, bmp_header(65536, 1, 24, 0)));
  CHECK(fails_with(ErrorCode::kLimit, bmp_header(1, INT32_MIN, 24, 0)));
  CHECK(fails_with(ErrorCode::kFormat, bmp_header(0, 1, 24, 0)));
  CHECK(fails_with(ErrorCode::kFormat, bmp_header(-5, 1, 24, 0)));
  CHECK(fails_with(ErrorCode::kUnsupported, bmp_header(1, 1, 16, 0)));
}

TEST_CASE("a JPEG of very many scans is refused", "[decode]") {
  const Buffer whole = read_golden("progressive.jpg");
  const std::uint8_t start_of_scan[] = {0xFF, 0xDA};
  const auto last_scan =
      std::find_end(whole.begin(), whole.end(), std::begin(start_of_scan), std::end(start_of_scan));
  const Buffer scan(last_scan, whole.end() - 2);
  Buffer jpeg(whole.begin(), last_scan);
  const auto with_scans = [&](int count) {
    for (int i = 0; i < count; ++i) jpeg.insert(jpeg.end(), scan.begin(), scan.end());
    Buffer ended = jpeg;
    ended.insert(ended.end(), whole.end() - 2, whole.end());
    return ended;
  };
  CHECK(try_decode(with_scans(100)).decoded);
  CHECK(fails_with(ErrorCode::kFormat, with_scans(400)));
}

TEST_CASE("what is no image is named as such", "[decode]") {
  CHECK(fails_with(ErrorCode::kFormat, {}));
  CHECK(fails_with(ErrorCode::kUnsupported, from_text("GIF89a")));
  CHECK(fails_with(ErrorCode::kUnsupported, from_text("\xFF")));
  const std::filesystem::path missing = test::golden_path("decode/no such file.jpg");
  for (const auto& path : {missing, test::golden_path("decode")}) {
    try {
      load_image(path);
      FAIL("decoded " << path);
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::kIo);
      CHECK(std::string(error.what()).find(path.string()) == 0);
    }
  }
}

TEST_CASE("every truncated file is an error", "[decode]") {
  for (const char* file : {"q10_ss2.jpg", "thin.jpg", "one_pixel.jpg", "exif6.jpg", "one_bit.png",
                           "palette.png", "grey.bmp", "cmyk.jpg", "progressive.jpg"}) {
    INFO(file);
    const Buffer whole = read_golden(file);
    REQUIRE(try_decode(whole).decoded);
    for (std::size_t size = 0; size < whole.size(); ++size) {
      if (try_decode(Buffer(whole.begin(), whole.begin() + size)).decoded) {
        FAIL("decoded " << size << " of " << whole.size() << " bytes");
      }
    }
  }
}

TEST_CASE("damaged files give an image or an error", "[decode]") {
  const auto seed = static_cast<std::uint32_t>(std::random_device{}());
  INFO("seed " << seed);
  std::mt19937 random(seed);
  DecodeLimits limits;
  limits.max_pixels = 1 << 20;
  int decoded = 0, refused = 0;
  for (const char* file :
       {"q10_ss1.jpg", "progressive.jpg", "cmyk.jpg", "exif6.jpg", "one_pixel.jpg", "one_bit.png",
        "palette.png", "grey_alpha.png", "grey16.png", "grey.bmp", "rgb.bmp", "rgb.ppm"}) {
    const Buffer whole = read_golden(file);
    for (int i = 0; i < 300; ++i) {
      Buffer damaged = whole;
      // Headers are short, and most interesting: half of the damage goes there.
      const std::size_t range = i % 2 ? damaged.size() : std::min<std::size_t>(damaged.size(), 200);
      for (std::uint32_t flips = 1 + random() % 4; flips > 0; --flips) {
        damaged[random() % range] ^= static_cast<std::uint8_t>(1u << random() % 8);
      }
      ++(try_decode(damaged, limits).decoded ? decoded : refused);
    }
  }
  CHECK(decoded > 0);
  CHECK(refused > 0);
}

TEST_CASE("a PNG with a wrong checksum is an error", "[decode]") {
  Buffer png = read_golden("rgb.png");
  png[png.size() / 2] ^= 1;
  CHECK(fails_with(ErrorCode::kFormat, png));
}

}  // namespace
}  // namespace intaglio
