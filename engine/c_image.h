/* Intaglio in C: image files become pixels, pixels of any format those a model takes. What
 * <intaglio/c_api.h> says of errors, ownership and versions is true here too; this is the library
 * intaglio_image, with a message of its own. */
#ifndef INTAGLIO_C_IMAGE_H
#define INTAGLIO_C_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "engine/c_api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* As intaglio_last_error, of the functions in this header. */
INTAGLIO_API const char* intaglio_image_last_error(void);

/* A decoded image, RGB. Immutable: any number of threads may look at it. */
typedef struct intaglio_image intaglio_image;

/* What is accepted. No side may exceed 65535 pixels in any case. */
typedef struct intaglio_decode_options {
  size_t struct_size;
  size_t max_file_bytes; /* 0: 256 MiB */
  uint64_t max_pixels;   /* 0: 178956970 */
  size_t as_stored;      /* 1: not turned as the EXIF orientation says */
} intaglio_decode_options;
#define INTAGLIO_DECODE_OPTIONS_INIT \
  { sizeof(intaglio_decode_options), 0, 0, 0 }

/* Decodes a whole file held in memory: JPEG, PNG, BMP, binary PPM or PGM. `name` stands in
 * messages; `options` may be NULL. INTAGLIO_FORMAT (damaged), INTAGLIO_UNSUPPORTED (another format,
 * or a rare kind of a known one), INTAGLIO_LIMIT. */
INTAGLIO_API intaglio_status intaglio_image_decode(const void* bytes, size_t size, const char* name,
                                                   const intaglio_decode_options* options,
                                                   intaglio_image** image);
/* Reads and decodes a file; INTAGLIO_IO too. */
INTAGLIO_API intaglio_status intaglio_image_load(const char* path,
                                                 const intaglio_decode_options* options,
                                                 intaglio_image** image);
INTAGLIO_API void intaglio_image_free(intaglio_image* image);
/* Its pixels, without a copy. */
INTAGLIO_API intaglio_status intaglio_image_pixels(const intaglio_image* image,
                                                   intaglio_image_view* view);

/* Preprocesses one image after another; allocates nothing while sizes repeat. One per thread. */
typedef struct intaglio_preprocessor intaglio_preprocessor;

INTAGLIO_API intaglio_status intaglio_preprocessor_create(
    const intaglio_preprocessing* preprocessing, intaglio_preprocessor** preprocessor);
INTAGLIO_API void intaglio_preprocessor_free(intaglio_preprocessor* preprocessor);
/* Writes RGB [height, width, 3] of the preprocessing's size to `pixels`, for which there is room
 * for `size` = height * width * 3 bytes. The image, of any pixel format and 1 to 65535 pixels a
 * side, is read where it lies. */
INTAGLIO_API intaglio_status intaglio_preprocessor_run(intaglio_preprocessor* preprocessor,
                                                       const intaglio_image_view* image,
                                                       uint8_t* pixels, size_t size);

#ifdef __cplusplus
}
#endif

#endif
