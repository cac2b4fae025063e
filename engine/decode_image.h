// Encoded images become RGB pixels: JPEG, PNG, BMP and binary PPM/PGM.
//
// The pixels are those of Pillow 9.4, `ImageOps.exif_transpose(Image.open(file)).convert("RGB")`,
// byte for byte: JPEG with the accurate integer DCT and smooth chroma upsampling, CMYK by Pillow's
// formula, grey and palettes spread over three channels, alpha dropped without blending.
//
// What differs from Pillow:
// - 16-bit grey PNG keeps the high byte of a sample; Pillow clips the sample to 255.
// - Orientation comes from EXIF alone (JPEG APP1, PNG eXIf); Pillow also looks into XMP and textual
//   profiles of PNG files. Pillow, and with it torchvision's ImageFolder, applies none unless
//   asked; here upright is the default, and DecodeLimits::apply_orientation = false turns it off.
// - Damage is an error more often: every PNG checksum is verified and the file must be complete.
// - Palette indices behind the palette's end are black.
// - A JPEG of more than 500 scans is refused.
// - Other formats are refused, and so are the rare kinds of BMP (run-length coded, 16-bit, OS/2)
//   and of PPM/PGM (plain text, a maximum other than 255).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "engine/image.h"
#include "kernels/api.h"

namespace intaglio {

/// What is accepted. Sizes are checked on the file's header, before memory is taken for pixels;
/// independently of these limits no side may exceed 65535 pixels (JPEG: 65500).
struct DecodeLimits {
  std::size_t max_file_bytes = std::size_t{256} << 20;
  std::uint64_t max_pixels = 178'956'970;  ///< where Pillow calls an image a decompression bomb
  bool apply_orientation = true;           ///< turn the image as its EXIF orientation says
};

/// Decodes a whole file held in memory. `name` stands in messages. Throws Error: kFormat (damaged
/// or truncated), kUnsupported (another format, or a rare kind of a known one) or kLimit.
INTAGLIO_API Image decode_image(std::span<const std::byte> bytes, const std::string& name,
                                const DecodeLimits& limits = {});

/// Reads and decodes a file. Throws as decode_image does, and Error(kIo).
INTAGLIO_API Image load_image(const std::filesystem::path& path, const DecodeLimits& limits = {});

}  // namespace intaglio
