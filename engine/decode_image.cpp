#include "engine/decode_image.h"

#include <jerror.h>
#include <jpeglib.h>
#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "graph/error.h"

namespace intaglio {
namespace {

using namespace std::literals;
using Bytes = std::span<const std::byte>;

constexpr std::int64_t kMaxSide = 65535;
constexpr int kMaxJpegScans = 500;  // a real one has about ten; each costs a pass over the image

struct Decoded {
  Image image;
  int orientation = 1;  // as EXIF numbers them
};

/// One call of decode_image.
struct Job {
  Bytes bytes;
  const std::string& name;
  const DecodeLimits& limits;

  [[noreturn]] void fail(ErrorCode code, const std::string& what) const {
    throw Error(code, name + ": " + what);
  }

  /// Checks the size that a header claims.
  void check_size(std::int64_t width, std::int64_t height) const {
    const std::string size = std::to_string(width) + " x " + std::to_string(height) + " pixels";
    if (width < 1 || height < 1) fail(ErrorCode::kFormat, "an image of " + size);
    if (width > kMaxSide || height > kMaxSide) {
      fail(ErrorCode::kLimit, size + "; the limit of a side is " + std::to_string(kMaxSide));
    }
    if (static_cast<std::uint64_t>(width * height) > limits.max_pixels) {
      fail(ErrorCode::kLimit, size + "; the limit is " + std::to_string(limits.max_pixels));
    }
  }
};

bool starts_with(Bytes bytes, std::string_view prefix) {
  return bytes.size() >= prefix.size() &&
         std::memcmp(bytes.data(), prefix.data(), prefix.size()) == 0;
}

/// The unsigned integer of `count` <= 4 bytes at `at`; 0 where the bytes end before it does.
std::uint32_t read_uint(Bytes bytes, std::size_t at, std::size_t count, bool big_endian = false) {
  if (at > bytes.size() || bytes.size() - at < count) return 0;
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::byte byte = bytes[big_endian ? at + i : at + count - 1 - i];
    value = value << 8 | std::to_integer<std::uint32_t>(byte);
  }
  return value;
}

void copy_pixel(std::uint8_t* dst, const std::uint8_t* src) {
  std::memcpy(dst, src, 3);
}

// ---- Orientation --------------------------------------------------------------------------------

/// The orientation in an EXIF block, which is a TIFF file: byte order, offset of a directory of
/// 12-byte entries. 1 (upright) where it is absent or nonsense. (CIPA DC-008, tag 0x0112)
int exif_orientation(Bytes exif) {
  if (starts_with(exif, "Exif\0\0"sv)) exif = exif.subspan(6);
  const bool big_endian = starts_with(exif, "MM\0*"sv);
  if (!big_endian && !starts_with(exif, "II*\0"sv)) return 1;
  const auto field = [&](std::size_t at, std::size_t count) {
    return read_uint(exif, at, count, big_endian);
  };
  const std::size_t directory = field(4, 4);
  const std::size_t entries = field(directory, 2);
  for (std::size_t i = 0; i < entries; ++i) {
    const std::size_t entry = directory + 2 + 12 * i;
    if (field(entry, 2) != 0x0112) continue;
    const std::uint32_t type = field(entry + 2, 2);  // 3: 16-bit, 4: 32-bit
    const std::uint32_t count = field(entry + 4, 4);
    const std::uint32_t value = type == 3   ? field(entry + 8, 2)
                                : type == 4 ? field(entry + 8, 4)
                                            : 0;
    return count == 1 && value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

/// Turns and mirrors the image so that it stands upright.
Image make_upright(Image image, int orientation) {
  if (orientation == 1) return image;
  const bool transpose = orientation >= 5;
  const bool from_bottom =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  const bool from_right = orientation == 2 || orientation == 3 || orientation >= 7;

  const auto stride = static_cast<std::ptrdiff_t>(image.stride());
  const std::ptrdiff_t down = from_bottom ? -stride : stride;
  const std::ptrdiff_t right = from_right ? -3 : 3;
  const std::ptrdiff_t corner = (from_bottom ? stride * (image.height - 1) : 0) +  //
                                (from_right ? stride - 3 : 0);

  Image upright = transpose ? Image(image.height, image.width) : Image(image.width, image.height);
  const std::ptrdiff_t step_x = transpose ? down : right;
  const std::ptrdiff_t step_y = transpose ? right : down;
  std::uint8_t* dst = upright.pixels.data();
  for (int y = 0; y < upright.height; ++y) {
    for (int x = 0; x < upright.width; ++x, dst += 3) {
      copy_pixel(dst, image.pixels.data() + (corner + y * step_y + x * step_x));
    }
  }
  return upright;
}

// ---- C libraries --------------------------------------------------------------------------------

/// libjpeg and libpng report an error by a call that must not return: it jumps back to here.
struct Trap {
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX] = "";

  [[noreturn]] void spring() { std::longjmp(jump, 1); }
};

/// Runs `body`; false if it sprang the trap. A jump skips destructors, so whatever lives inside
/// `body` must be trivial; what it refers to outside keeps its lifetime.
template <typename Body>
bool guarded(Trap& trap, const Body& body) {
  if (setjmp(trap.jump) != 0) return false;
  body();
  return true;
}

// ---- JPEG ---------------------------------------------------------------------------------------

struct JpegReader {
  Trap trap;
  jpeg_error_mgr errors{};
  jpeg_progress_mgr progress{};
  jpeg_decompress_struct info{};

  JpegReader() {
    info.err = jpeg_std_error(&errors);
    info.client_data = &trap;
    errors.error_exit = [](j_common_ptr common) {
      Trap& trap = *static_cast<Trap*>(common->client_data);
      common->err->format_message(common, trap.message);
      trap.spring();
    };
    // Warnings are for damage that libjpeg papers over. As in Pillow the end of the data is an
    // error, the rest is not.
    errors.emit_message = [](j_common_ptr common, int level) {
      if (level < 0 && common->err->msg_code == JWRN_JPEG_EOF) common->err->error_exit(common);
    };
    progress.progress_monitor = [](j_common_ptr common) {
      if (reinterpret_cast<j_decompress_ptr>(common)->input_scan_number <= kMaxJpegScans) return;
      Trap& trap = *static_cast<Trap*>(common->client_data);
      std::snprintf(trap.message, sizeof trap.message, "more than %d scans", kMaxJpegScans);
      trap.spring();
    };
  }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;
  ~JpegReader() { jpeg_destroy_decompress(&info); }

  Bytes exif() const {
    for (const jpeg_marker_struct* marker = info.marker_list; marker; marker = marker->next) {
      const Bytes data = std::as_bytes(std::span(marker->data, marker->data_length));
      if (starts_with(data, "Exif\0"sv)) return data;
    }
    return {};
  }
};

/// One row of CMYK as Adobe stores it, inverted: 255 is no ink. Pillow's formula, with its rounded
/// division by 255: rgb = k - (255 - c) * k / 255, where c and k are the stored bytes.
void cmyk_to_rgb(const std::uint8_t* cmyk, std::uint8_t* rgb, int width) {
  for (int x = 0; x < width; ++x, cmyk += 4, rgb += 3) {
    for (int channel = 0; channel < 3; ++channel) {
      const unsigned product = (255u - cmyk[channel]) * cmyk[3] + 128u;
      rgb[channel] = static_cast<std::uint8_t>(cmyk[3] - ((product + (product >> 8)) >> 8));
    }
  }
}

/// Decodes all rows behind a header that has been read. Only trivial objects: it runs guarded.
void read_jpeg_rows(jpeg_decompress_struct& info, Image& image, std::uint8_t* cmyk_row) {
  jpeg_start_decompress(&info);
  while (info.output_scanline < info.output_height) {
    std::uint8_t* dst = image.row(static_cast<int>(info.output_scanline));
    JSAMPROW row = cmyk_row ? cmyk_row : dst;
    jpeg_read_scanlines(&info, &row, 1);
    if (cmyk_row) cmyk_to_rgb(cmyk_row, dst, image.width);
  }
  jpeg_finish_decompress(&info);  // demands the end marker
}

ErrorCode jpeg_error_code(int message) {
  switch (message) {
    case JERR_IMAGE_TOO_BIG:  // a side above 65500
      return ErrorCode::kLimit;
    case JERR_ARITH_NOTIMPL:
    case JERR_BAD_PRECISION:
    case JERR_CONVERSION_NOTIMPL:
    case JERR_SOF_UNSUPPORTED:
      return ErrorCode::kUnsupported;
    default:
      return ErrorCode::kFormat;
  }
}

Decoded decode_jpeg(const Job& job) {
  JpegReader reader;
  jpeg_decompress_struct& info = reader.info;
  const auto run = [&](const auto& body) {
    if (guarded(reader.trap, body)) return;
    job.fail(jpeg_error_code(reader.errors.msg_code),
             "cannot decode this JPEG: "s + reader.trap.message);
  };
  run([&] {
    jpeg_create_decompress(&info);
    info.progress = &reader.progress;
    jpeg_save_markers(&info, JPEG_APP0 + 1, 0xFFFF);
    jpeg_mem_src(&info, reinterpret_cast<const unsigned char*>(job.bytes.data()), job.bytes.size());
    jpeg_read_header(&info, TRUE);
  });
  const int components = info.num_components;
  if (components != 1 && components != 3 && components != 4) {
    job.fail(ErrorCode::kUnsupported, "a JPEG of " + std::to_string(components) + " components");
  }
  job.check_size(info.image_width, info.image_height);
  info.out_color_space = components == 4 ? JCS_CMYK : JCS_RGB;
  std::vector<std::uint8_t> cmyk_row(components == 4 ? 4 * std::size_t{info.image_width} : 0);
  Image image(static_cast<int>(info.image_width), static_cast<int>(info.image_height));
  const int orientation = exif_orientation(reader.exif());
  run([&] { read_jpeg_rows(info, image, cmyk_row.empty() ? nullptr : cmyk_row.data()); });
  return {std::move(image), orientation};
}

// ---- PNG ----------------------------------------------------------------------------------------

struct PngReader {
  Trap trap;
  Bytes rest;  // not read yet
  png_structp png = nullptr;
  png_infop info = nullptr;

  explicit PngReader(Bytes bytes) : rest(bytes) {}
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;
  ~PngReader() { png_destroy_read_struct(&png, &info, nullptr); }

  static void on_error(png_structp png, png_const_charp message) {
    Trap& trap = *static_cast<Trap*>(png_get_error_ptr(png));
    std::snprintf(trap.message, sizeof trap.message, "%s", message);
    trap.spring();
  }
  static void on_warning(png_structp, png_const_charp) {}
  static void on_read(png_structp png, png_bytep dst, std::size_t count) {
    Bytes& rest = *static_cast<Bytes*>(png_get_io_ptr(png));
    if (count > rest.size()) png_error(png, "the file ends too early");
    std::memcpy(dst, rest.data(), count);
    rest = rest.subspan(count);
  }

  /// Reads the header. Trivial objects only: it runs guarded, as does read_rows.
  void open() {
    png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &trap, on_error, on_warning);
    if (png) info = png_create_info_struct(png);
    if (!info) trap.spring();
    png_set_read_fn(png, &rest, on_read);
    png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    // libpng's own limits are out of the way: Job::check_size has stricter ones.
    png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_read_info(png, info);
  }

  /// Decodes the rows as RGB8 and reads to the end of the file.
  void read_rows(Image& image) {
    png_set_expand(png);  // palettes and fewer than 8 bits
    png_set_strip_16(png);
    png_set_strip_alpha(png);
    png_set_gray_to_rgb(png);
    const int passes = png_set_interlace_handling(png);
    png_read_update_info(png, info);
    if (png_get_rowbytes(png, info) != image.stride()) png_error(png, "rows of an unexpected size");
    for (int pass = 0; pass < passes; ++pass) {
      for (int y = 0; y < image.height; ++y) png_read_row(png, image.row(y), nullptr);
    }
    png_read_end(png, info);
  }
};

Decoded decode_png(const Job& job) {
  PngReader reader(job.bytes);
  const auto run = [&](const auto& body) {
    if (guarded(reader.trap, body)) return;
    job.fail(ErrorCode::kFormat, "cannot decode this PNG: "s + reader.trap.message);
  };
  run([&] { reader.open(); });
  const png_uint_32 width = png_get_image_width(reader.png, reader.info);
  const png_uint_32 height = png_get_image_height(reader.png, reader.info);
  job.check_size(width, height);
  Image image(static_cast<int>(width), static_cast<int>(height));
  run([&] { reader.read_rows(image); });
  png_uint_32 exif_size = 0;
  png_bytep exif = nullptr;
  png_get_eXIf_1(reader.png, reader.info, &exif_size, &exif);
  const Bytes exif_bytes = std::as_bytes(std::span(exif, exif ? exif_size : 0));
  return {std::move(image), exif_orientation(exif_bytes)};
}

// ---- BMP ----------------------------------------------------------------------------------------

/// One row of palette indices of 1, 4 or 8 bits, the leftmost pixel in the highest bits.
void expand_bmp_row(const std::uint8_t* src, int bits, Bytes palette, std::uint8_t* dst,
                    int width) {
  for (int x = 0; x < width; ++x, dst += 3) {
    const int bit = x * bits;
    const unsigned index = (src[bit / 8] >> (8 - bits - bit % 8)) & ((1u << bits) - 1);
    const std::uint32_t bgr = read_uint(palette, 4 * index, 3);  // black behind the palette's end
    dst[0] = static_cast<std::uint8_t>(bgr >> 16);
    dst[1] = static_cast<std::uint8_t>(bgr >> 8);
    dst[2] = static_cast<std::uint8_t>(bgr);
  }
}

/// One row of `step` bytes a pixel, the first three of them blue, green, red.
void reorder_bmp_row(const std::uint8_t* src, int step, std::uint8_t* dst, int width) {
  for (int x = 0; x < width; ++x, src += step, dst += 3) {
    dst[0] = src[2];
    dst[1] = src[1];
    dst[2] = src[0];
  }
}

/// Uncompressed Windows bitmaps: 14 bytes that point to the pixels, a header of 40 to 124 bytes
/// whose first 40 are the same in all versions, masks (in a fixed place) or a palette, then the
/// rows.
Decoded decode_bmp(const Job& job) {
  const auto field = [&](std::size_t at, std::size_t size) {
    return read_uint(job.bytes, at, size);
  };
  const std::size_t pixels = field(10, 4);
  const std::size_t header = field(14, 4);
  const std::int32_t width = static_cast<std::int32_t>(field(18, 4));
  const std::int64_t signed_height = static_cast<std::int32_t>(field(22, 4));
  const bool top_row_first = signed_height < 0;
  const std::int64_t height = top_row_first ? -signed_height : signed_height;
  const int bits = static_cast<int>(field(28, 2));
  const std::uint32_t compression = field(30, 4);
  const bool plain_masks = compression == 3 && bits == 32 && field(54, 4) == 0xFF0000 &&
                           field(58, 4) == 0xFF00 && field(62, 4) == 0xFF;
  const bool known_bits = bits == 1 || bits == 4 || bits == 8 || bits == 24 || bits == 32;
  if (header < 40 || header > 124 || !known_bits || (compression != 0 && !plain_masks)) {
    job.fail(ErrorCode::kUnsupported, "a BMP of header size " + std::to_string(header) + ", " +
                                          std::to_string(bits) + " bits, compression " +
                                          std::to_string(compression));
  }
  job.check_size(width, height);
  const std::size_t stride = (static_cast<std::size_t>(width) * bits + 31) / 32 * 4;
  const std::size_t size = stride * static_cast<std::size_t>(height);
  if (pixels < 14 + header || pixels > job.bytes.size() || job.bytes.size() - pixels < size) {
    job.fail(ErrorCode::kFormat, "BMP rows at bytes " + std::to_string(pixels) + " to " +
                                     std::to_string(pixels + size) + " of a file of " +
                                     std::to_string(job.bytes.size()));
  }
  Image image(width, static_cast<int>(height));
  const std::size_t colors = field(46, 4);
  const std::size_t room = (pixels - 14 - header) / 4;
  const Bytes palette =
      job.bytes.subspan(14 + header, 4 * (colors ? std::min(colors, room) : room));
  const auto* rows = reinterpret_cast<const std::uint8_t*>(job.bytes.data() + pixels);
  for (int y = 0; y < image.height; ++y, rows += stride) {
    std::uint8_t* dst = image.row(top_row_first ? y : image.height - 1 - y);
    if (bits <= 8) {
      expand_bmp_row(rows, bits, palette, dst, width);
    } else {
      reorder_bmp_row(rows, bits / 8, dst, width);
    }
  }
  return {std::move(image)};
}

// ---- PPM and PGM --------------------------------------------------------------------------------

bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

/// The next number of a PNM header, behind whitespace and comments; moves `at` behind it.
std::optional<std::int64_t> next_pnm_number(std::string_view text, std::size_t& at) {
  const std::size_t previous_end = at;
  while (at < text.size() && (is_space(text[at]) || text[at] == '#')) {
    if (text[at] == '#') at = std::min(text.find('\n', at), text.size() - 1);
    ++at;
  }
  const std::size_t start = at;
  std::int64_t value = 0;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9' && at - start < 10; ++at) {
    value = 10 * value + (text[at] - '0');
  }
  if (start == previous_end || at == start) return {};
  return value;
}

/// P5 (grey) and P6 (RGB): width, height, maximum, one whitespace, rows without gaps.
Decoded decode_pnm(const Job& job) {
  const std::string_view text(reinterpret_cast<const char*>(job.bytes.data()), job.bytes.size());
  std::size_t at = 2;
  const auto width = next_pnm_number(text, at);
  const auto height = next_pnm_number(text, at);
  const auto maximum = next_pnm_number(text, at);
  if (!width || !height || !maximum || at == text.size() || !is_space(text[at])) {
    job.fail(ErrorCode::kFormat, "a malformed PPM or PGM header");
  }
  if (*maximum != 255) {
    job.fail(ErrorCode::kUnsupported,
             "a PPM or PGM maximum of " + std::to_string(*maximum) + ", expected 255");
  }
  job.check_size(*width, *height);
  const std::size_t step = text[1] == '5' ? 1 : 3;
  const std::size_t size = step * static_cast<std::size_t>(*width * *height);
  const std::string_view src = text.substr(at + 1);
  if (src.size() < size) {
    job.fail(ErrorCode::kFormat, "the file ends too early: expected " + std::to_string(size) +
                                     " bytes of pixels, found " + std::to_string(src.size()));
  }
  Image image(static_cast<int>(*width), static_cast<int>(*height));
  for (std::size_t i = 0; i < image.pixels.size(); ++i) {
    image.pixels[i] = static_cast<std::uint8_t>(src[step == 3 ? i : i / 3]);
  }
  return {std::move(image)};
}

Decoded decode(const Job& job) {
  if (starts_with(job.bytes, "\xFF\xD8\xFF"sv)) return decode_jpeg(job);
  if (starts_with(job.bytes, "\x89PNG\r\n\x1A\n"sv)) return decode_png(job);
  if (starts_with(job.bytes, "BM"sv)) return decode_bmp(job);
  if (starts_with(job.bytes, "P5"sv) || starts_with(job.bytes, "P6"sv)) return decode_pnm(job);
  if (job.bytes.empty()) job.fail(ErrorCode::kFormat, "the file is empty");
  job.fail(ErrorCode::kUnsupported, "not a JPEG, PNG, BMP or binary PPM/PGM image");
}

}  // namespace

Image decode_image(Bytes bytes, const std::string& name, const DecodeLimits& limits) {
  const Job job{bytes, name, limits};
  if (bytes.size() > limits.max_file_bytes) {
    job.fail(ErrorCode::kLimit,
             "a file of more than " + std::to_string(limits.max_file_bytes) + " bytes, the limit");
  }
  Decoded decoded = decode(job);
  return make_upright(std::move(decoded.image), limits.apply_orientation ? decoded.orientation : 1);
}

Image load_image(const std::filesystem::path& path, const DecodeLimits& limits) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(ErrorCode::kIo, path.string() + ": cannot open this file");
  // Read in blocks and not by the size the file system states: pipes work, endless devices end.
  std::vector<char> data;
  std::size_t size = 0;
  while (file && size <= limits.max_file_bytes) {
    data.resize(std::max<std::size_t>(2 * size, std::size_t{1} << 18));
    file.read(data.data() + size, static_cast<std::streamsize>(data.size() - size));
    size += static_cast<std::size_t>(file.gcount());
  }
  if (file.bad()) throw Error(ErrorCode::kIo, path.string() + ": cannot read this file");
  return decode_image(std::as_bytes(std::span(data.data(), size)), path.string(), limits);
}

}  // namespace intaglio
