// Runs a plan. Everything here moves and computes integers only; a test disassembles this object.
#include <algorithm>
#include <cassert>
#include <new>

#include "engine/model.h"

namespace intaglio {
namespace {

constexpr std::align_val_t kAlignment{64};

struct AlignedDelete {
  void operator()(std::byte* p) const { ::operator delete(p, kAlignment); }
};

}  // namespace

struct Session::State {
  State(Model session_model, Executor* session_executor)
      : model(std::move(session_model)),
        executor(session_executor),
        threads(session_executor == nullptr ? 1 : session_executor->concurrency()),
        plan(model.impl_->plan),
        memory(static_cast<std::byte*>(::operator new(
            plan.arena_bytes + threads * plan.scratch_bytes + kAtLeastOne, kAlignment))),
        logits(model.classes()) {
    // Bound once: a std::function made per step could allocate.
    task = [this](std::size_t piece) { run_piece(piece); };
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  void run(ImageView pixels, std::int32_t* out) {
    for (std::size_t i = 0; i < plan.steps.size(); ++i) {
      const PlannedStep& step = plan.steps[i];
      if (observer != nullptr) observer->begin(i);
      current = step.step.get();
      operands.a = read(step.a, pixels);
      operands.b = static_cast<const std::uint8_t*>(read(step.b, pixels));
      operands.image_stride = pixels.stride;
      operands.dst = step.dst.place == Location::Place::kArena
                         ? static_cast<void*>(memory.get() + step.dst.offset)
                         : out;
      pieces = std::min(threads, current->units());
      if (pieces == 1) {
        run_piece(0);
      } else {
        executor->run(pieces, task);
      }
      if (observer != nullptr) observer->end(i);
    }
  }

  /// Piece `piece` of `pieces` of the current step; each has scratch memory of its own.
  void run_piece(std::size_t piece) const noexcept {
    const std::size_t units = current->units();
    current->run(operands, units * piece / pieces, units * (piece + 1) / pieces,
                 memory.get() + plan.arena_bytes + piece * plan.scratch_bytes);
  }

  const void* read(const Location& location, ImageView pixels) const {
    switch (location.place) {
      case Location::Place::kImage:
        return pixels.data;
      case Location::Place::kArena:
        return memory.get() + location.offset;
      case Location::Place::kNone:
      case Location::Place::kLogits:
        break;  // check(): nothing reads the logits
    }
    return nullptr;
  }

  static constexpr std::size_t kAtLeastOne = 64;

  Model model;
  Executor* executor;
  std::size_t threads;
  const Plan& plan;
  std::unique_ptr<std::byte, AlignedDelete> memory;
  std::vector<std::int32_t> logits;
  std::function<void(std::size_t)> task;
  StepObserver* observer = nullptr;

  // The step in execution.
  const Step* current = nullptr;
  Operands operands;
  std::size_t pieces = 1;
};

Session::Session(Model model, Executor* executor)
    : state_(std::make_unique<State>(std::move(model), executor)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

const Model& Session::model() const {
  return state_->model;
}

void Session::observe(StepObserver* observer) {
  state_->observer = observer;
}

std::span<const std::int32_t> Session::run(ImageView pixels) {
  run({&pixels, 1}, state_->logits);
  return state_->logits;
}

void Session::run(std::span<const ImageView> images, std::span<std::int32_t> logits) {
  const Model& model = state_->model;
  if (logits.size() != images.size() * model.classes()) {
    throw Error(ErrorCode::kInvalidArgument, "logits must have room for " +
                                                 std::to_string(images.size()) + " x " +
                                                 std::to_string(model.classes()) + " values");
  }
  for (const ImageView& image : images) {
    if (image.data == nullptr || image.width < 0 || image.height < 0 ||
        static_cast<std::size_t>(image.width) != model.width() ||
        static_cast<std::size_t>(image.height) != model.height() ||
        image.stride < 3 * model.width()) {
      throw Error(ErrorCode::kInvalidArgument,
                  "the model takes RGB pixels of " + std::to_string(model.width()) + " x " +
                      std::to_string(model.height()) + ", not " + std::to_string(image.width) +
                      " x " + std::to_string(image.height));
    }
  }
  for (std::size_t i = 0; i < images.size(); ++i) {
    state_->run(images[i], logits.data() + i * model.classes());
  }
}

}  // namespace intaglio
