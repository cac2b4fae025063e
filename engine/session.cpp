// Runs a plan. Everything here moves and computes integers only; a test disassembles this object.
#include <algorithm>
#include <atomic>
#include <cassert>
#include <thread>
#include <utility>

#include "engine/check_image.h"
#include "engine/model.h"

namespace intaglio {
namespace {

/// A block of memory from the caller's resource.
class Block {
 public:
  explicit Block(std::pmr::memory_resource* resource) : resource_(resource) {}
  ~Block() { free(); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  /// Of this size at least; what was in it is lost.
  void reserve(std::size_t bytes) {
    if (bytes <= bytes_) return;
    free();  // first, so that there are never two
    data_ = static_cast<std::byte*>(resource_->allocate(bytes, kAlignment));
    bytes_ = bytes;
  }
  std::byte* data() const { return data_; }

 private:
  static constexpr std::size_t kAlignment = 64;

  void free() {
    if (data_ != nullptr) resource_->deallocate(data_, bytes_, kAlignment);
    data_ = nullptr;
    bytes_ = 0;
  }

  std::pmr::memory_resource* resource_;
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// Tells the CPU that it waits for another core, and after a while the system: with more threads
/// than CPUs the other one may not be running.
class Wait {
 public:
  void operator()() {
    if (++rounds_ % kRoundsPerYield != 0) {
      __builtin_ia32_pause();
    } else {
      std::this_thread::yield();
    }
  }

 private:
  static constexpr unsigned kRoundsPerYield = 256;
  unsigned rounds_ = 0;
};

}  // namespace

/// One image over several threads. Of the executor's tasks, the first to run leads: it publishes
/// the steps one after the other. The others help: each does its own part of every step, as a rule
/// of the rows that its caches hold, and what it can take of parts that are not done, until there
/// are no more steps. The leader does so too, and waits for pieces that were taken, so that an
/// inference gets done however many of its tasks the executor really runs at the same time, and a
/// step costs two messages between cores, not a wake-up.
///
/// Several images: each task takes whole images, with an arena of its own; nothing is waited for.
struct Session::State {
  State(Model session_model, Executor* session_executor, std::pmr::memory_resource* resource)
      : model(std::move(session_model)),
        executor(session_executor),
        threads(session_executor == nullptr
                    ? 1
                    : std::min(session_executor->concurrency(), kMaxThreads)),
        memory(resource),
        tickets(std::make_unique<Ticket[]>(threads)),
        classes(model.classes()),
        logit_memory(resource) {
    use(model.impl_->own);
    reserve();
    logit_memory.reserve(classes * sizeof(std::int32_t));
    // Bound once: a std::function made per call could allocate.
    share_steps = [this](std::size_t lane) {
      if (!led.exchange(true, std::memory_order_relaxed)) {
        lead(lane);
      } else {
        help(lane);
      }
    };
    share_images = [this](std::size_t lane) {
      for (std::size_t i = next_image++; i < images.size(); i = next_image++) {
        run_alone(images[i], out + i * classes, lane);
      }
    };
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  /// What the next calls execute.
  void use(std::shared_ptr<const SizedPlan> sized) {
    active = std::move(sized);
    plan = &active->plan;
  }
  /// Memory for the plan in use; apart from use(), because a call whose memory is refused leaves
  /// its plan behind, and the next one has to ask again.
  void reserve() {
    const std::size_t arenas = threads * plan->alone.bytes;
    memory.reserve(threads * plan->scratch_bytes +
                   (threads == 1 ? arenas : std::max(arenas, plan->shared.bytes)) + kAtLeastOne);
  }
  void prepare(ImageView image, std::span<const std::size_t> wanted) {
    const Request& now = active->request;
    if (!std::cmp_equal(image.height, now.height) || !std::cmp_equal(image.width, now.width) ||
        !std::equal(wanted.begin(), wanted.end(), now.features.begin(), now.features.end())) {
      use(model.impl_->plan_for({static_cast<std::size_t>(image.height),
                                 static_cast<std::size_t>(image.width),
                                 {wanted.begin(), wanted.end()}}));
    }
    reserve();
  }

  void run(std::span<const ImageView> all, std::int32_t* all_logits) {
    // Whole images while every thread has one; the rest is shared step by step.
    const std::size_t whole = threads == 1 ? all.size() : all.size() / threads * threads;
    images = all.first(whole);
    out = all_logits;
    next_image = 0;
    layout = &plan->alone;
    if (threads == 1) {
      share_images(0);
    } else if (whole != 0) {
      executor->run(threads, share_images);
    }
    for (std::size_t i = whole; i < all.size(); ++i) {
      layout = &plan->shared;
      images = all.subspan(i, 1);
      out = all_logits + i * classes;
      led.store(false, std::memory_order_relaxed);
      publish(0);
      executor->run(threads, share_steps);
    }
  }

  void run_alone(ImageView image, std::int32_t* image_logits, std::size_t lane) {
    for (std::size_t i = 0; i < plan->steps.size(); ++i) {
      StepObserver* const told = lane == 0 ? observer : nullptr;
      if (told != nullptr) told->begin(i);
      const Step& step = *plan->steps[i].step;
      step.run(operands_of(i, image, image_logits, lane), 0, step.units(), scratch(lane));
      if (told != nullptr) told->end(i);
    }
  }

  void lead(std::size_t lane) {
    for (std::size_t i = 0; i < plan->steps.size(); ++i) {
      if (observer != nullptr) observer->begin(i);
      if (plan->steps[i].step->units() == 1) {
        run_units(i, 0, 1, lane);
      } else {
        done.store(0, std::memory_order_relaxed);
        publish(ticket_of(i));
        const std::size_t others = kPieces * threads - take_pieces(lane);
        for (Wait wait; done.load(std::memory_order_acquire) != others;) wait();
      }
      if (observer != nullptr) observer->end(i);
    }
    publish(kFinished);
  }

  void help(std::size_t lane) {
    std::uint64_t seen = 0;
    for (Wait wait;;) {
      const std::uint64_t step = tickets[lane].value.load(std::memory_order_acquire) & kFinished;
      if (step == kFinished) return;
      if (step == seen) {
        wait();
        continue;
      }
      seen = step;
      const std::size_t taken = take_pieces(lane);
      if (taken != 0) done.fetch_add(taken, std::memory_order_release);
    }
  }

  /// Takes and does pieces of the current step until there are none: those of the lane's own part,
  /// whose ticket no other core touches until it helps, then what is left of the other parts. Their
  /// number.
  std::size_t take_pieces(std::size_t lane) {
    std::size_t taken = 0;
    for (std::size_t i = 0; i < threads; ++i) {
      const std::size_t part = (lane + i) % threads;
      std::atomic<std::uint64_t>& ticket = tickets[part].value;
      while (has_piece(ticket.load(std::memory_order_acquire))) {
        const std::uint64_t piece = ticket.fetch_add(1, std::memory_order_acq_rel);
        if (!has_piece(piece)) break;
        run_piece(step_of(piece), part, piece_of(piece), lane);
        ++taken;
      }
    }
    return taken;
  }

  /// Odd parts are done from their end: of two, what is left to share lies in the middle.
  void run_piece(std::size_t step, std::size_t part, std::size_t piece, std::size_t lane) {
    const std::size_t units = plan->steps[step].step->units();
    const std::size_t begin = units * part / threads;
    const std::size_t end = units * (part + 1) / threads;
    const std::size_t first = done_before(piece, end - begin);
    const std::size_t last = done_before(piece + 1, end - begin);
    if (first == last) return;
    if (part % 2 == 0) {
      run_units(step, begin + first, begin + last, lane);
    } else {
      run_units(step, end - last, end - first, lane);
    }
  }

  void run_units(std::size_t index, std::size_t begin, std::size_t end, std::size_t lane) {
    plan->steps[index].step->run(operands_of(index, images[0], out, 0), begin, end, scratch(lane));
  }

  /// Units of a part before a piece. The first piece is large: a kernel call lays out operands
  /// once. The others even out what other processes take from a core.
  static std::size_t done_before(std::size_t piece, std::size_t units) {
    return piece == 0 ? 0 : units * (kLargePiece + piece - 1) / (kLargePiece + kPieces - 1);
  }

  void publish(std::uint64_t value) {
    for (std::size_t part = 0; part < threads; ++part) {
      tickets[part].value.store(value, std::memory_order_release);
    }
  }

  // A ticket is a step, counted from 1, and how many pieces of a part of it are taken. Late takers
  // count on beyond the last piece, once each.
  static std::uint64_t ticket_of(std::size_t step) { return (step + 1) << 32; }
  static std::size_t step_of(std::uint64_t t) { return (t >> 32) - 1; }
  static std::size_t piece_of(std::uint64_t t) { return t & 0xffffffff; }
  static bool has_piece(std::uint64_t t) {
    return t >> 32 != 0 && t < kFinished && piece_of(t) < kPieces;
  }

  Operands operands_of(std::size_t step, ImageView image, std::int32_t* image_logits,
                       std::size_t lane) const {
    const auto place = [&](const Location& location) -> std::byte* {
      return location.place == Location::Place::kArena ? arena(lane) + location.offset : nullptr;
    };
    const Places& places = layout->steps[step];
    Operands operands = {place(places.a), place(places.b), image.stride, place(places.dst)};
    if (places.a.place == Location::Place::kImage) operands.a = image.data;
    if (places.dst.place == Location::Place::kLogits) operands.dst = image_logits;
    return operands;
  }

  /// Where the features of the call that just ended are.
  void find_features() {
    features.clear();
    for (std::size_t i = 0; i < active->request.features.size(); ++i) {
      const Feature& feature = active->graph.features[active->request.features[i]];
      const Value& value = active->graph.values[feature.value];
      FeatureMap map;
      map.name = feature.name;
      map.channels = channels_of(value);
      map.width = value.shape[value.shape.size() - 2];
      map.height = rows_of(value) / map.width;
      const void* codes = arena(0) + layout->outputs[i].offset;
      if (value.dtype == DType::kS16) {
        map.codes_s16 = static_cast<const std::int16_t*>(codes);
      } else {
        map.codes_u8 = static_cast<const std::uint8_t*>(codes);
      }
      map.scale = value.grid.scale;
      map.zero_point = value.grid.zero_point;
      map.exponents = value.grid.exponents;
      features.push_back(std::move(map));
    }
  }

  std::span<std::int32_t> logits() const {
    return {reinterpret_cast<std::int32_t*>(logit_memory.data()), classes};
  }
  std::byte* scratch(std::size_t lane) const { return memory.data() + lane * plan->scratch_bytes; }
  std::byte* arena(std::size_t lane) const { return scratch(threads) + lane * layout->bytes; }

  static constexpr std::size_t kAtLeastOne = 64;
  static constexpr std::size_t kPieces = 4;      // of a part
  static constexpr std::size_t kLargePiece = 7;  // times a small one
  static constexpr std::uint64_t kFinished = std::uint64_t{0xffffffff} << 32;
  static constexpr std::size_t kMaxThreads = 4096;  // no machine has more to share an image

  /// On a line of cache of its own.
  struct alignas(64) Ticket {
    std::atomic<std::uint64_t> value{0};
  };

  Model model;
  std::shared_ptr<const SizedPlan> active;
  const Plan* plan = nullptr;      ///< the active one's
  const Layout* layout = nullptr;  ///< of the call in execution or the last one
  Executor* executor;
  std::size_t threads;
  Block memory;  ///< every thread's scratch, then their arenas, or a shared one
  std::unique_ptr<Ticket[]> tickets;  ///< of the parts of the current step, one per thread
  std::size_t classes;
  Block logit_memory;  ///< of the calls that hand logits out
  std::vector<FeatureMap> features;
  std::function<void(std::size_t)> share_steps, share_images;
  StepObserver* observer = nullptr;

  // The call in execution.
  std::span<const ImageView> images;
  std::int32_t* out = nullptr;
  std::atomic<std::size_t> next_image{0};
  std::atomic<bool> led{false};
  alignas(64) std::atomic<std::size_t> done{0};
};

Session::Session(Model model, Executor* executor, std::pmr::memory_resource* memory)
    : state_(
          std::make_unique<State>(std::move(model), executor,
                                  memory == nullptr ? std::pmr::new_delete_resource() : memory)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

const Model& Session::model() const {
  return state_->model;
}

void Session::observe(StepObserver* observer) {
  state_->observer = observer;
}

const std::vector<StepInfo>& Session::steps() const {
  return state_->plan->infos;
}

namespace {

void require_rgb(const ImageView& image) {
  require_pixels(image);
  if (image.format != PixelFormat::kRgb) {
    throw Error(ErrorCode::kUnsupported,
                "a session takes RGB, which a Preprocessor makes of any pixel format");
  }
}

}  // namespace

std::span<const std::int32_t> Session::run(ImageView pixels) {
  run({&pixels, 1}, state_->logits());
  return state_->logits();
}

void Session::run(std::span<const ImageView> images, std::span<std::int32_t> logits) {
  const Model& model = state_->model;
  if (logits.size() != images.size() * model.classes()) {
    throw Error(ErrorCode::kInvalidArgument, "logits must have room for " +
                                                 std::to_string(images.size()) + " x " +
                                                 std::to_string(model.classes()) + " values");
  }
  for (const ImageView& image : images) {
    require_rgb(image);
    if (image.width != images[0].width || image.height != images[0].height) {
      throw Error(ErrorCode::kInvalidArgument, "the images of a call must have one size");
    }
  }
  if (images.empty()) return;
  state_->prepare(images[0], {});
  state_->run(images, logits.data());
}

std::span<const FeatureMap> Session::features(ImageView pixels,
                                              std::span<const std::string> names) {
  State& state = *state_;
  const auto& known = state.model.impl_->own->graph.features;
  std::vector<std::size_t> wanted;
  for (std::size_t i = 0; i < known.size(); ++i) {
    if (names.empty() || std::find(names.begin(), names.end(), known[i].name) != names.end()) {
      wanted.push_back(i);
    }
  }
  for (const std::string& name : names) {
    if (std::none_of(known.begin(), known.end(),
                     [&](const Feature& f) { return f.name == name; })) {
      throw Error(ErrorCode::kInvalidArgument, "the model has no feature '" + name + "'");
    }
  }
  if (wanted.empty()) throw Error(ErrorCode::kInvalidArgument, "the model has no features");
  require_rgb(pixels);
  state.prepare(pixels, wanted);
  state.run({&pixels, 1}, state.logits().data());
  state.find_features();
  return state.features;
}

}  // namespace intaglio
