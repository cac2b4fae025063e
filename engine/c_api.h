/* Intaglio in C: load a model, make a session, classify pixels with integers only.
 *
 *   intaglio_model* model = NULL;
 *   intaglio_session* session = NULL;
 *   if (intaglio_model_load("deit_tiny.intg", NULL, &model) != INTAGLIO_OK ||
 *       intaglio_session_create(model, NULL, &session) != INTAGLIO_OK ||
 *       intaglio_session_run(session, &image, 1, logits, classes) != INTAGLIO_OK) {
 *     fprintf(stderr, "%s\n", intaglio_last_error());
 *   }
 *   intaglio_session_free(session);
 *   intaglio_model_free(model);
 *
 * Errors: what can fail returns a status, and writes its results only with INTAGLIO_OK. A NULL
 * where none is allowed is INTAGLIO_INVALID_ARGUMENT. No C++ exception leaves these functions.
 *
 * Ownership: what a function makes is freed by the function called ..._free, which takes NULL too.
 * A session keeps its model and its thread pool alive, so handles may be freed in any order.
 * Strings and arrays that are handed out belong to the handle they are asked of, and live as long
 * as it; those of an intaglio_feature only until the session is called again.
 *
 * Threads: a model and everything asked of it may be used by any number of threads at once. A
 * session, and the thread pool of a session, belong to one caller at a time.
 *
 * Versions: structs with an ..._INIT begin with their own size, which it sets. Of ..._options, set
 * what is to differ: 0 or NULL is the default of every other member. So programs compiled with
 * older and newer headers work: members that the library does not know must be 0
 * (INTAGLIO_UNSUPPORTED), those that the program does not know are. Of structs that are filled in,
 * what the program has room for is written. intaglio_image_view and intaglio_prediction have no
 * size and stay as they are. */
#ifndef INTAGLIO_C_API_H
#define INTAGLIO_C_API_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What kind of thing was wrong: intaglio::ErrorCode, and two more. */
typedef enum intaglio_status {
  INTAGLIO_OK = 0,
  INTAGLIO_INVALID_ARGUMENT = 1, /* a call asked for something impossible */
  INTAGLIO_IO = 2,               /* a file could not be opened or read */
  INTAGLIO_FORMAT = 3,           /* bytes that are not what their format demands */
  INTAGLIO_INTEGRITY = 4,        /* a model file whose checksum does not match */
  INTAGLIO_UNSUPPORTED = 5,      /* well-formed, but nothing this version can do */
  INTAGLIO_LIMIT = 6,            /* larger than a stated limit */
  INTAGLIO_OUT_OF_MEMORY = 7,
  INTAGLIO_UNKNOWN = 8 /* an error of the system's or of a callback's */
} intaglio_status;

/* What the latest call of this thread that failed has to say, with the file or tensor, what was
 * expected and what was found; "" before the first. Valid until the next call that fails. At most
 * 2047 bytes. */
INTAGLIO_API const char* intaglio_last_error(void);

/* ---- Pixels ---- */

/* The bytes of a pixel in their order. Alpha is not looked at; grey is all three channels. */
typedef int intaglio_pixel_format;
enum {
  INTAGLIO_RGB = 0,
  INTAGLIO_BGR = 1,
  INTAGLIO_RGBA = 2,
  INTAGLIO_BGRA = 3,
  INTAGLIO_GREY = 4
};

/* An image of the caller's, [height, width, bytes of a pixel]. Its members stay as they are. */
typedef struct intaglio_image_view {
  const uint8_t* data;
  int width;
  int height;
  size_t stride; /* bytes from one row to the next, at least those of a row's pixels */
  intaglio_pixel_format format; /* a session takes INTAGLIO_RGB only, a preprocessor all */
} intaglio_image_view;

typedef int intaglio_interpolation;
enum { INTAGLIO_BILINEAR = 0, INTAGLIO_BICUBIC = 1 };

/* How photographs become the pixels a model takes: shorter side to `resize`, with antialiasing,
 * then height x width from the centre. See intaglio_model_preprocessing and <intaglio/c_image.h>.
 */
typedef struct intaglio_preprocessing {
  size_t struct_size;
  int resize; /* pixels, 1 to 8192 */
  int height; /* pixels, 1 to 4096, as is width */
  int width;
  intaglio_interpolation interpolation;
  double mean[3]; /* of RGB / 255; the model has both within, only intaglio_pixels_of reads them */
  double std[3];
} intaglio_preprocessing;
#define INTAGLIO_PREPROCESSING_INIT                                          \
  {                                                                          \
    sizeof(intaglio_preprocessing), 0, 0, 0, INTAGLIO_BILINEAR, {0, 0, 0}, { \
      0, 0, 0                                                                \
    }                                                                        \
  }

/* The order of a tensor's elements: channel by channel, or pixel by pixel. */
typedef int intaglio_layout;
enum { INTAGLIO_NCHW = 0, INTAGLIO_NHWC = 1 };

/* Pixels of a tensor [3, height, width] or [height, width, 3] that somebody has normalized as
 * `preprocessing` says: code = round(255 * (value * std + mean)), halves up, cut to 0..255; NaN is
 * 0. Of a tensor that was made of codes, those codes. `pixels`, [height, width, 3], has `count`
 * bytes, as many as the tensor has elements. */
INTAGLIO_API intaglio_status intaglio_pixels_of(const float* normalized, size_t count,
                                                intaglio_layout layout,
                                                const intaglio_preprocessing* preprocessing,
                                                uint8_t* pixels);

/* ---- Models ---- */

/* A loaded model: immutable, with its weights packed for one instruction set. */
typedef struct intaglio_model intaglio_model;

typedef struct intaglio_load_options {
  size_t struct_size;
  const char* isa; /* "scalar", "avx2", "avx_vnni", "avx512bw", "avx512_vnni", "avx512_vbmi"; NULL:
                      the best the CPU has. INTAGLIO_UNSUPPORTED when the CPU lacks it */
  size_t threads;  /* that load; they end before loading does. 0: one per CPU of the process */
} intaglio_load_options;
#define INTAGLIO_LOAD_OPTIONS_INIT \
  { sizeof(intaglio_load_options), NULL, 0 }

/* Reads and verifies an .intg file, which is not needed afterwards. `options` may be NULL. */
INTAGLIO_API intaglio_status intaglio_model_load(const char* path,
                                                 const intaglio_load_options* options,
                                                 intaglio_model** model);
/* The same from memory, which is copied. `name` stands in messages. */
INTAGLIO_API intaglio_status intaglio_model_parse(const void* bytes, size_t size, const char* name,
                                                  const intaglio_load_options* options,
                                                  intaglio_model** model);
/* One more owner of the model: intaglio_model_free is to be called once more. */
INTAGLIO_API intaglio_status intaglio_model_retain(intaglio_model* model);
INTAGLIO_API void intaglio_model_free(intaglio_model* model);

typedef struct intaglio_model_info {
  size_t struct_size;
  size_t height; /* pixels of the input that the file is made for */
  size_t width;
  int takes_any_size;   /* 1: images of other sizes too (Swin) */
  size_t classes;       /* number of logits */
  double logit_scale;   /* real logit = logit_scale * integer logit; positive */
  size_t features;      /* that intaglio_session_features can give */
  size_t session_bytes; /* memory of a session of one thread for that size */
  const char* isa;      /* instruction set of the kernels, as in intaglio_load_options */
} intaglio_model_info;
#define INTAGLIO_MODEL_INFO_INIT \
  { sizeof(intaglio_model_info), 0, 0, 0, 0, 0.0, 0, 0, NULL }

INTAGLIO_API intaglio_status intaglio_model_describe(const intaglio_model* model,
                                                     intaglio_model_info* info);
/* How the network's training and calibration made pixels of photographs. */
INTAGLIO_API intaglio_status intaglio_model_preprocessing(const intaglio_model* model,
                                                          intaglio_preprocessing* preprocessing);
/* Name of a class, or its index in decimal where the model has no labels. index < classes. */
INTAGLIO_API intaglio_status intaglio_model_label(const intaglio_model* model, size_t index,
                                                  const char** label);
/* Name of a feature: "stage1" ... of a Swin; "class_token" and "tokens" of a ViT. index < features.
 */
INTAGLIO_API intaglio_status intaglio_model_feature_name(const intaglio_model* model, size_t index,
                                                         const char** name);

/* ---- Threads ---- */

/* Threads that share the work of a session's calls; they sleep between them. The caller works too:
 * a pool of n starts n - 1. After fork(), the child has none of them, and the caller does all the
 * work. */
typedef struct intaglio_thread_pool intaglio_thread_pool;

/* threads 0: one per CPU that this process may use. INTAGLIO_LIMIT when the system refuses. */
INTAGLIO_API intaglio_status intaglio_thread_pool_create(size_t threads,
                                                         intaglio_thread_pool** pool);
INTAGLIO_API void intaglio_thread_pool_free(intaglio_thread_pool* pool);

/* ---- Sessions ---- */

/* The memory of one inference at a time. */
typedef struct intaglio_session intaglio_session;

/* At most one of `thread_pool` and `run_tasks`; with neither, all runs on the caller's thread. */
typedef struct intaglio_session_options {
  size_t struct_size;
  intaglio_thread_pool* thread_pool;
  /* Threads of the caller's: calls task(argument, i) once for each i < count, in any order, on any
   * threads, and returns when all are done. count <= concurrency. */
  void (*run_tasks)(void* executor_context, size_t count,
                    void (*task)(void* argument, size_t index), void* argument);
  void* executor_context;
  size_t concurrency; /* with run_tasks: how many tasks can run at the same time, at least 1 */
  /* Memory of the caller's for activations and logits: both or neither. `alignment` is 64. NULL
   * from `allocate` is INTAGLIO_OUT_OF_MEMORY, after which the session can be called again. Called
   * by intaglio_session_create and _free, and by the first call for an image of a larger size or
   * for features. */
  void* (*allocate)(void* allocator_context, size_t size, size_t alignment);
  void (*deallocate)(void* allocator_context, void* memory, size_t size, size_t alignment);
  void* allocator_context;
} intaglio_session_options;
#define INTAGLIO_SESSION_OPTIONS_INIT \
  { sizeof(intaglio_session_options), NULL, NULL, NULL, 0, NULL, NULL, NULL }

/* `options` may be NULL. */
INTAGLIO_API intaglio_status intaglio_session_create(const intaglio_model* model,
                                                     const intaglio_session_options* options,
                                                     intaglio_session** session);
INTAGLIO_API void intaglio_session_free(intaglio_session* session);

/* Classifies `count` images of one size, RGB, into `logits` [count, classes], for which there is
 * room for `logit_count` = count * classes. A size that the model does not take is
 * INTAGLIO_UNSUPPORTED. Allocates nothing, but for the first image of another size than the one
 * before, and for more images than ever before. */
INTAGLIO_API intaglio_status intaglio_session_run(intaglio_session* session,
                                                  const intaglio_image_view* images, size_t count,
                                                  int32_t* logits, size_t logit_count);

/* A feature of one image: rows of codes, each of `channels`.
 * real = scale * 2^exponents[channel] * (code - zero_point). */
typedef struct intaglio_feature {
  size_t struct_size;
  const char* name;
  size_t height; /* rows of a map; of a sequence of tokens, 1 x tokens */
  size_t width;
  size_t channels;
  const uint8_t* codes_u8; /* [height, width, channels]; one of these two, the other is NULL */
  const int16_t* codes_s16;
  double scale;
  int32_t zero_point;
  const uint8_t* exponents; /* one per channel, or NULL: all 0 */
} intaglio_feature;
#define INTAGLIO_FEATURE_INIT \
  { sizeof(intaglio_feature), NULL, 0, 0, 0, NULL, NULL, 0.0, 0, NULL }

/* Computes features of one image: those with the `name_count` names, or all with `names` NULL and
 * `name_count` 0; what only the logits need is not computed. They are counted in `count` and asked
 * for with the next two functions, in the model's order, until the session is called again. */
INTAGLIO_API intaglio_status intaglio_session_features(intaglio_session* session,
                                                       const intaglio_image_view* image,
                                                       const char* const* names, size_t name_count,
                                                       size_t* count);
/* Where it lies, without a copy: its name, codes and exponents are valid until the session is
 * called again. */
INTAGLIO_API intaglio_status intaglio_session_feature(const intaglio_session* session, size_t index,
                                                      intaglio_feature* feature);
/* What the codes stand for, into `floats`, with room for `float_count` = height * width * channels.
 */
INTAGLIO_API intaglio_status intaglio_session_feature_floats(const intaglio_session* session,
                                                             size_t index, intaglio_layout layout,
                                                             float* floats, size_t float_count);

/* ---- Rankings ---- */

typedef struct intaglio_prediction {
  size_t index; /* of a class */
  int32_t logit;
} intaglio_prediction;

/* The k largest of `count` logits into `best`, largest first, ties by index. k <= count. */
INTAGLIO_API intaglio_status intaglio_top_k(const int32_t* logits, size_t count,
                                            intaglio_prediction* best, size_t k);
/* Softmax of real logits: probabilities[i] = exp(logit_scale * logits[i]) / sum, `count` of them.
 */
INTAGLIO_API intaglio_status intaglio_probabilities(const int32_t* logits, size_t count,
                                                    double logit_scale, double* probabilities);

#ifdef __cplusplus
}
#endif

#endif
