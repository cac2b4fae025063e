/* Classifies images, in C: the best classes of each, with their probabilities.
 *
 *   classify_c MODEL.intg IMAGE... */
#include <intaglio/c_api.h>
#include <intaglio/c_image.h>
#include <stdio.h>
#include <stdlib.h>

enum { BEST = 3 };

/* What a program needs for one image after another. */
typedef struct classifier {
  intaglio_model* model;
  intaglio_session* session;
  intaglio_preprocessor* preprocessor;
  intaglio_model_info info;
  intaglio_image_view input; /* the pixels that the model takes */
  uint8_t* pixels;
  int32_t* logits;
  double* shares;
} classifier;

static int open_classifier(classifier* c, const char* path) {
  intaglio_preprocessing preprocessing = INTAGLIO_PREPROCESSING_INIT;
  if (intaglio_model_load(path, NULL, &c->model) != INTAGLIO_OK ||
      intaglio_model_describe(c->model, &c->info) != INTAGLIO_OK ||
      intaglio_model_preprocessing(c->model, &preprocessing) != INTAGLIO_OK ||
      intaglio_session_create(c->model, NULL, &c->session) != INTAGLIO_OK) {
    fprintf(stderr, "classify: %s\n", intaglio_last_error());
    return 0;
  }
  if (intaglio_preprocessor_create(&preprocessing, &c->preprocessor) != INTAGLIO_OK) {
    fprintf(stderr, "classify: %s\n", intaglio_image_last_error());
    return 0;
  }
  c->pixels = malloc(3 * c->info.width * c->info.height);
  c->logits = malloc(c->info.classes * sizeof *c->logits);
  c->shares = malloc(c->info.classes * sizeof *c->shares);
  c->input.data = c->pixels;
  c->input.width = (int)c->info.width;
  c->input.height = (int)c->info.height;
  c->input.stride = 3 * c->info.width;
  c->input.format = INTAGLIO_RGB;
  if (c->pixels == NULL || c->logits == NULL || c->shares == NULL) {
    fprintf(stderr, "classify: out of memory\n");
    return 0;
  }
  return 1;
}

static void close_classifier(classifier* c) {
  free(c->shares);
  free(c->logits);
  free(c->pixels);
  intaglio_preprocessor_free(c->preprocessor);
  intaglio_session_free(c->session);
  intaglio_model_free(c->model);
}

/* The pixels of a file as the model takes them. */
static int read_pixels(classifier* c, const char* file) {
  intaglio_image* image = NULL;
  intaglio_image_view view;
  const int done = intaglio_image_load(file, NULL, &image) == INTAGLIO_OK &&
                   intaglio_image_pixels(image, &view) == INTAGLIO_OK &&
                   intaglio_preprocessor_run(c->preprocessor, &view, c->pixels,
                                             3 * c->info.width * c->info.height) == INTAGLIO_OK;
  if (!done) fprintf(stderr, "classify: %s\n", intaglio_image_last_error());
  intaglio_image_free(image);
  return done;
}

static int classify(classifier* c, const char* file) {
  intaglio_prediction best[BEST];
  const size_t count = c->info.classes < BEST ? c->info.classes : BEST;
  size_t i;
  if (!read_pixels(c, file)) return 0;
  if (intaglio_session_run(c->session, &c->input, 1, c->logits, c->info.classes) != INTAGLIO_OK ||
      intaglio_top_k(c->logits, c->info.classes, best, count) != INTAGLIO_OK ||
      intaglio_probabilities(c->logits, c->info.classes, c->info.logit_scale, c->shares) !=
          INTAGLIO_OK) {
    fprintf(stderr, "classify: %s\n", intaglio_last_error());
    return 0;
  }
  printf("%s\n", file);
  for (i = 0; i < count; ++i) {
    const char* label = "";
    if (intaglio_model_label(c->model, best[i].index, &label) != INTAGLIO_OK) return 0;
    printf("  %5.1f %%  %s\n", 100 * c->shares[best[i].index], label);
  }
  return 1;
}

int main(int argc, char** argv) {
  classifier c = {NULL, NULL, NULL, INTAGLIO_MODEL_INFO_INIT, {NULL, 0, 0, 0, 0}, NULL, NULL, NULL};
  int i, good;
  if (argc < 3) {
    fprintf(stderr, "usage: classify_c MODEL.intg IMAGE...\n");
    return 2;
  }
  good = open_classifier(&c, argv[1]);
  for (i = 2; good && i < argc; ++i) good = classify(&c, argv[i]);
  close_classifier(&c);
  return good ? 0 : 1;
}
