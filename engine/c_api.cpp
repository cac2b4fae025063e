// The C functions of the runtime: thin, over intaglio.h and thread_pool.h.
#include "engine/c_api.h"

#include <atomic>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "engine/c_support.h"
#include "engine/intaglio.h"
#include "engine/thread_pool.h"

namespace {

using namespace intaglio;
using c::refuse;
using c::required;
using c::required_array;

thread_local c::LastError last_error;

template <typename Call>
intaglio_status guarded(const Call& call) noexcept {
  return c::guarded(last_error, call);
}

/// The caller's threads.
class CallbackExecutor : public Executor {
 public:
  explicit CallbackExecutor(const intaglio_session_options& options) : options_(options) {}
  std::size_t concurrency() const override { return options_.concurrency; }
  void run(std::size_t count, const std::function<void(std::size_t)>& task) override {
    using Task = const std::function<void(std::size_t)>;
    options_.run_tasks(
        options_.executor_context, count,
        [](void* argument, std::size_t index) { (*static_cast<Task*>(argument))(index); },
        const_cast<std::function<void(std::size_t)>*>(&task));
  }

 private:
  const intaglio_session_options options_;
};

/// The caller's memory.
class CallbackMemory : public std::pmr::memory_resource {
 public:
  explicit CallbackMemory(const intaglio_session_options& options) : options_(options) {}

 private:
  void* do_allocate(std::size_t size, std::size_t alignment) override {
    void* memory = options_.allocate(options_.allocator_context, size, alignment);
    if (memory == nullptr) throw std::bad_alloc();
    if (reinterpret_cast<std::uintptr_t>(memory) % alignment != 0) {
      do_deallocate(memory, size, alignment);
      refuse("options: allocate gives memory that is not aligned to " + std::to_string(alignment));
    }
    return memory;
  }
  void do_deallocate(void* memory, std::size_t size, std::size_t alignment) override {
    options_.deallocate(options_.allocator_context, memory, size, alignment);
  }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }

  const intaglio_session_options options_;
};

LoadOptions load_options(const intaglio_load_options* given) {
  const auto values = c::read_options(given, "options");
  LoadOptions options;
  options.threads = values.threads;
  if (values.isa == nullptr) return options;
  for (const Isa isa : kernels::kAllIsas) {
    if (std::strcmp(values.isa, isa_name(isa)) == 0) options.isa = isa;
  }
  if (!options.isa) {
    refuse("options: no instruction set is called '" + std::string(values.isa) + "'");
  }
  return options;
}

FeatureLayout feature_layout(intaglio_layout layout) {
  if (layout != INTAGLIO_NCHW && layout != INTAGLIO_NHWC) {
    refuse("an unknown layout: " + std::to_string(layout));
  }
  return layout == INTAGLIO_NCHW ? FeatureLayout::kNchw : FeatureLayout::kNhwc;
}

template <typename T>
const T& at(const std::vector<T>& all, std::size_t index) {
  if (index >= all.size()) {
    refuse("index " + std::to_string(index) + " of " + std::to_string(all.size()));
  }
  return all[index];
}

/// A size of an array, `count` elements of `size` bytes each, that can be.
std::size_t countable(std::size_t count, std::size_t size) {
  if (count > PTRDIFF_MAX / size) refuse("a count of " + std::to_string(count));
  return count;
}

}  // namespace

struct intaglio_model {
  explicit intaglio_model(Model loaded) : model(std::move(loaded)), features(model.features()) {
    for (std::size_t i = 0; i < model.classes(); ++i) labels.push_back(model.label(i));
  }

  std::atomic<std::size_t> owners{1};
  Model model;
  std::vector<std::string> features, labels;
};

struct intaglio_thread_pool {
  std::shared_ptr<ThreadPool> pool;
};

struct intaglio_session {
  intaglio_session(const intaglio_model& from, const intaglio_session_options& options)
      : pool(options.thread_pool == nullptr ? nullptr : options.thread_pool->pool),
        executor(options),
        memory(options),
        session(from.model,
                pool != nullptr                ? static_cast<Executor*>(pool.get())
                : options.run_tasks != nullptr ? &executor
                                               : nullptr,
                options.allocate != nullptr ? &memory : nullptr) {}

  std::shared_ptr<ThreadPool> pool;
  CallbackExecutor executor;
  CallbackMemory memory;
  Session session;
  std::vector<ImageView> images;         // of the call in execution
  std::span<const FeatureMap> features;  // of the latest call
};

namespace {

const FeatureMap& feature_at(const intaglio_session* session, std::size_t index) {
  const auto features = required(session, "session").features;
  if (index >= features.size()) {
    refuse("feature " + std::to_string(index) + " of " + std::to_string(features.size()) +
           " that were computed");
  }
  return features[index];
}

}  // namespace

const char* intaglio_last_error() {
  return last_error.what();
}

intaglio_status intaglio_pixels_of(const float* normalized, size_t count, intaglio_layout layout,
                                   const intaglio_preprocessing* preprocessing, uint8_t* pixels) {
  return guarded([&] {
    required_array(normalized, countable(count, sizeof(float)), "normalized");
    required_array(pixels, count, "pixels");
    pixels_of({normalized, count}, feature_layout(layout), c::read_preprocessing(preprocessing),
              {pixels, count});
  });
}

intaglio_status intaglio_model_load(const char* path, const intaglio_load_options* options,
                                    intaglio_model** model) {
  return guarded([&] {
    auto& to = required(model, "model");
    to = new intaglio_model(Model::load(&required(path, "path"), load_options(options)));
  });
}

intaglio_status intaglio_model_parse(const void* bytes, size_t size, const char* name,
                                     const intaglio_load_options* options, intaglio_model** model) {
  return guarded([&] {
    auto& to = required(model, "model");
    const auto* data = static_cast<const std::byte*>(bytes);
    required_array(data, countable(size, 1), "bytes");
    to = new intaglio_model(
        Model::parse({data, size}, &required(name, "name"), load_options(options)));
  });
}

intaglio_status intaglio_model_retain(intaglio_model* model) {
  return guarded([&] { ++required(model, "model").owners; });
}

void intaglio_model_free(intaglio_model* model) {
  if (model != nullptr && --model->owners == 0) delete model;
}

intaglio_status intaglio_model_describe(const intaglio_model* model, intaglio_model_info* info) {
  return guarded([&] {
    const Model& m = required(model, "model").model;
    intaglio_model_info values = INTAGLIO_MODEL_INFO_INIT;
    values.height = m.height();
    values.width = m.width();
    values.takes_any_size = m.takes_any_size();
    values.classes = m.classes();
    values.logit_scale = m.logit_scale();
    values.features = model->features.size();
    values.session_bytes = m.session_bytes();
    values.isa = isa_name(m.isa());
    c::write_struct(values, info, "info");
  });
}

intaglio_status intaglio_model_preprocessing(const intaglio_model* model,
                                             intaglio_preprocessing* preprocessing) {
  return guarded([&] {
    const Preprocessing& p = required(model, "model").model.preprocessing();
    intaglio_preprocessing values = INTAGLIO_PREPROCESSING_INIT;
    values.resize = p.resize;
    values.height = p.height;
    values.width = p.width;
    values.interpolation = static_cast<intaglio_interpolation>(p.interpolation);
    std::copy_n(p.mean.begin(), 3, values.mean);
    std::copy_n(p.std.begin(), 3, values.std);
    c::write_struct(values, preprocessing, "preprocessing");
  });
}

intaglio_status intaglio_model_label(const intaglio_model* model, size_t index,
                                     const char** label) {
  return guarded(
      [&] { required(label, "label") = at(required(model, "model").labels, index).c_str(); });
}

intaglio_status intaglio_model_feature_name(const intaglio_model* model, size_t index,
                                            const char** name) {
  return guarded(
      [&] { required(name, "name") = at(required(model, "model").features, index).c_str(); });
}

intaglio_status intaglio_thread_pool_create(size_t threads, intaglio_thread_pool** pool) {
  return guarded([&] {
    auto& to = required(pool, "pool");
    to = new intaglio_thread_pool{std::make_shared<ThreadPool>(threads)};
  });
}

void intaglio_thread_pool_free(intaglio_thread_pool* pool) {
  delete pool;
}

intaglio_status intaglio_session_create(const intaglio_model* model,
                                        const intaglio_session_options* given,
                                        intaglio_session** session) {
  return guarded([&] {
    auto& to = required(session, "session");
    const auto options = c::read_options(given, "options");
    if (options.run_tasks != nullptr && options.thread_pool != nullptr) {
      refuse("options: both a thread pool and run_tasks");
    }
    if ((options.run_tasks == nullptr) != (options.concurrency == 0)) {
      refuse("options: run_tasks needs a concurrency, and the other way round");
    }
    if ((options.allocate == nullptr) != (options.deallocate == nullptr)) {
      refuse("options: of allocate and deallocate one is NULL");
    }
    to = new intaglio_session(required(model, "model"), options);
  });
}

void intaglio_session_free(intaglio_session* session) {
  delete session;
}

intaglio_status intaglio_session_run(intaglio_session* session, const intaglio_image_view* images,
                                     size_t count, int32_t* logits, size_t logit_count) {
  return guarded([&] {
    auto& s = required(session, "session");
    required_array(images, countable(count, sizeof *images), "images");
    required_array(logits, countable(logit_count, sizeof *logits), "logits");
    s.features = {};
    s.images.clear();
    for (std::size_t i = 0; i < count; ++i) s.images.push_back(c::image_view(images[i]));
    s.session.run(s.images, {logits, logit_count});
  });
}

intaglio_status intaglio_session_features(intaglio_session* session,
                                          const intaglio_image_view* image,
                                          const char* const* names, size_t name_count,
                                          size_t* count) {
  return guarded([&] {
    auto& s = required(session, "session");
    auto& found = required(count, "count");
    const ImageView view = c::image_view(required(image, "image"));
    if (names != nullptr && name_count == 0) refuse("no names; all features are those of NULL");
    required_array(names, countable(name_count, sizeof *names), "names");
    std::vector<std::string> wanted;
    for (std::size_t i = 0; i < name_count; ++i) {
      wanted.emplace_back(&required(names[i], "a name"));
    }
    s.features = {};
    s.features = s.session.features(view, wanted);
    found = s.features.size();
  });
}

intaglio_status intaglio_session_feature(const intaglio_session* session, size_t index,
                                         intaglio_feature* feature) {
  return guarded([&] {
    const FeatureMap& f = feature_at(session, index);
    intaglio_feature values = INTAGLIO_FEATURE_INIT;
    values.name = f.name.c_str();
    values.height = f.height;
    values.width = f.width;
    values.channels = f.channels;
    values.codes_u8 = f.codes_u8;
    values.codes_s16 = f.codes_s16;
    values.scale = f.scale;
    values.zero_point = f.zero_point;
    values.exponents = f.exponents.empty() ? nullptr : f.exponents.data();
    c::write_struct(values, feature, "feature");
  });
}

intaglio_status intaglio_session_feature_floats(const intaglio_session* session, size_t index,
                                                intaglio_layout layout, float* floats,
                                                size_t float_count) {
  return guarded([&] {
    required_array(floats, countable(float_count, sizeof *floats), "floats");
    to_float(feature_at(session, index), feature_layout(layout), {floats, float_count});
  });
}

intaglio_status intaglio_top_k(const int32_t* logits, size_t count, intaglio_prediction* best,
                               size_t k) {
  return guarded([&] {
    required_array(logits, countable(count, sizeof *logits), "logits");
    if (k > count) refuse("the " + std::to_string(k) + " largest of " + std::to_string(count));
    required_array(best, k, "best");
    for (const Prediction& p : top_k({logits, count}, k)) *best++ = {p.index, p.logit};
  });
}

intaglio_status intaglio_probabilities(const int32_t* logits, size_t count, double logit_scale,
                                       double* shares) {
  return guarded([&] {
    required_array(logits, countable(count, sizeof *logits), "logits");
    required_array(shares, count, "probabilities");
    std::ranges::copy(probabilities({logits, count}, logit_scale), shares);
  });
}
