// Intaglio's public interface: load a model, make a session, classify pixels with integers only.
//
//   const intaglio::Model model = intaglio::Model::load("deit_tiny.intg");
//   intaglio::Session session(model);
//   std::span<const std::int32_t> logits = session.run(pixels);   // RGB, model.height() x width()
//   for (const auto& p : intaglio::top_k(logits, 5)) std::puts(model.label(p.index).c_str());
//
// Logits are the same on every CPU, instruction set and number of threads, bit for bit.
// A Model is immutable and may be shared by any number of threads; a Session belongs to one caller
// at a time. After a Session is built, run() allocates nothing. Errors of the outside world are
// intaglio::Error; nothing prints, exits or reads the environment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <memory_resource>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/image.h"
#include "graph/error.h"
#include "graph/preprocessing.h"
#include "kernels/api.h"
#include "kernels/cpu.h"

namespace intaglio {

// Instruction-set levels, their names, and the best one this CPU has.
using kernels::best_isa;
using kernels::Isa;
using kernels::isa_name;

/// Runs the pieces of one inference; give a Session your own to use your own threads.
class INTAGLIO_API Executor {
 public:
  virtual ~Executor() = default;
  /// How many pieces can run at the same time, >= 1; constant.
  virtual std::size_t concurrency() const = 0;
  /// Calls task(i) once for each i < count, in any order, on any threads, and returns when all are
  /// done. count <= concurrency(). The tasks throw nothing. Must not allocate if Session::run is to
  /// be free of allocations.
  virtual void run(std::size_t count, const std::function<void(std::size_t)>& task) = 0;
};

struct LoadOptions {
  /// Instruction set of the kernels; the best one the CPU has, unless set. Error(kUnsupported) when
  /// the CPU lacks it.
  std::optional<Isa> isa;
  /// Threads that read the file and pack weights, the caller's included; they end before loading
  /// does. 0: one per CPU that this process may use. Where the system refuses some, fewer do.
  std::size_t threads = 0;
};

/// What one step of an inference does: an operation of the graph, or several in one pass.
struct StepInfo {
  std::string name;                      ///< "blocks.0.mlp.fc1"
  std::string kind;                      ///< "linear"; of fused operations "linear+gelu"
  std::size_t multiply_accumulates = 0;  ///< for one image, of all rows
  std::size_t parameter_bytes = 0;
  std::size_t activation_bytes = 0;  ///< read and written
};

/// Told when the steps of an inference begin and end, for profiles.
class INTAGLIO_API StepObserver {
 public:
  virtual ~StepObserver() = default;
  /// `step` indexes Session::steps(). Called on one thread at a time, in order.
  virtual void begin(std::size_t step) noexcept = 0;
  virtual void end(std::size_t step) noexcept = 0;
};

/// A feature of one image: rows of codes, each of `channels`. real = scale * 2^exponents[channel] *
/// (code - zero_point).
struct FeatureMap {
  std::string name;                   ///< as Model::features() has it
  std::size_t height = 1, width = 0;  ///< rows of a map; of a sequence of tokens, 1 x tokens
  std::size_t channels = 0;
  const std::uint8_t* codes_u8 = nullptr;  ///< [height, width, channels]; one of these two
  const std::int16_t* codes_s16 = nullptr;
  double scale = 1;
  std::int32_t zero_point = 0;
  std::span<const std::uint8_t> exponents;  ///< one per channel, or empty: all 0
};

/// The order of a tensor's elements: channel by channel, or pixel by pixel.
enum class FeatureLayout : std::uint8_t { kNchw, kNhwc };

/// What the codes stand for, into `floats` [height * width * channels]. Error(kInvalidArgument)
/// when its size is another.
INTAGLIO_API void to_float(const FeatureMap& feature, FeatureLayout layout,
                           std::span<float> floats);

/// Pixels of a tensor that somebody has normalized as the model's preprocessing says: code =
/// round(255 * (value * std + mean)), halves up, cut to 0..255; NaN is 0. Of a tensor that was made
/// of codes, those codes. `pixels`: [height, width, 3], RGB. Error(kInvalidArgument) unless both
/// have three channels of one size.
INTAGLIO_API void pixels_of(std::span<const float> normalized, FeatureLayout layout,
                            const Preprocessing& preprocessing, std::span<std::uint8_t> pixels);

/// A loaded model: weights packed for one instruction set, everything else planned. A cheap handle;
/// copies share one immutable model.
class INTAGLIO_API Model {
 public:
  /// Reads and verifies an .intg file, which is not needed afterwards. Throws Error naming the path
  /// and what is wrong.
  static Model load(const std::filesystem::path& path, const LoadOptions& options = {});
  /// The same from memory; the bytes are copied, and the copy is given back as weights are packed.
  /// `name` stands in messages.
  static Model parse(std::span<const std::byte> bytes, const std::string& name,
                     const LoadOptions& options = {});

  std::size_t height() const;   ///< pixels of the input that the file is made for
  std::size_t width() const;    ///< the same
  bool takes_any_size() const;  ///< images of any size, not only that one (Swin)
  /// What Session::features can give, in order: "stage1" ... of a Swin; of a ViT "class_token",
  /// with a row per token that is classified, behind the last norm, and "tokens", all of them
  /// before it.
  std::vector<std::string> features() const;
  std::size_t classes() const;  ///< number of logits
  /// Real logit = logit_scale() * integer logit; positive.
  double logit_scale() const;
  /// Name of a class, or its index in decimal where the model has no labels. index < classes().
  std::string label(std::size_t index) const;
  /// How the network's training and calibration made pixels of photographs.
  const Preprocessing& preprocessing() const;
  Isa isa() const;
  std::size_t multiply_accumulates() const;    ///< of one image, all rows of all operations
  const std::vector<StepInfo>& steps() const;  ///< in the order of execution, at height() x width()
  std::size_t session_bytes() const;  ///< memory of a single-threaded Session for that size

  /// Both are handles of the same loaded model.
  friend bool operator==(const Model&, const Model&) = default;

  struct INTAGLIO_INTERNAL Impl;

 private:
  friend class Session;
  explicit Model(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

/// The memory of one inference at a time.
class INTAGLIO_API Session {
 public:
  /// `executor` null: everything runs on the caller's thread. `memory` gives the activations and
  /// logits their memory, aligned to 64 bytes, here and for larger images; null: operator new. Both
  /// must outlive the Session.
  explicit Session(Model model, Executor* executor = nullptr,
                   std::pmr::memory_resource* memory = nullptr);
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();

  /// Classifies one image of the model's size, or of any size where the model takes that. The
  /// logits are valid until the next call. Throws Error(kUnsupported) for a size that the model
  /// does not take, or a pixel format other than RGB (a Preprocessor takes all). The first image of
  /// another size than the one before plans anew, or takes the plan that a session of the model has
  /// made, and may allocate.
  std::span<const std::int32_t> run(ImageView pixels);
  /// Classifies images of one size, one after the other; logits [images, classes].
  void run(std::span<const ImageView> images, std::span<std::int32_t> logits);

  /// Features of one image, those called `names`, or all of the model's; what only the logits need
  /// is not computed. Valid until the next call. Throws Error(kInvalidArgument) for an unknown
  /// name, and as run() does.
  std::span<const FeatureMap> features(ImageView pixels, std::span<const std::string> names = {});

  const Model& model() const;
  /// What the latest call executed: Model::steps(), or the steps for another size or features.
  const std::vector<StepInfo>& steps() const;
  /// `observer` is told of every step from now on; null: nobody. It must outlive its use.
  void observe(StepObserver* observer);

 private:
  struct INTAGLIO_INTERNAL State;
  std::unique_ptr<State> state_;
};

/// One class of a ranking.
struct Prediction {
  std::size_t index = 0;
  std::int32_t logit = 0;
};

/// The k largest logits, largest first, ties by index. k is cut to logits.size().
INTAGLIO_API std::vector<Prediction> top_k(std::span<const std::int32_t> logits, std::size_t k);

/// Softmax of real logits, for reports: probability[i] = exp(scale * logits[i]) / sum. The one
/// place with floating point behind the integer logits.
INTAGLIO_API std::vector<double> probabilities(std::span<const std::int32_t> logits,
                                               double logit_scale);

}  // namespace intaglio
