#include "engine/classify/batch.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "engine/classify/batch_tensors.h"
#include "engine/classify/counter.h"
#include "engine/classify/earlier_rows.h"
#include "engine/classify/output_file.h"
#include "engine/classify/pipeline.h"
#include "engine/classify/summary.h"
#include "engine/image_paths.h"
#include "engine/labelled_images.h"
#include "engine/program.h"
#include "engine/thread_pool.h"
#include "graph/error.h"

namespace intaglio {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kEvaluated = 5;  // top-5
constexpr std::chrono::milliseconds kFlushEvery{100};
constexpr std::chrono::seconds kProgressEvery{30};

std::vector<std::string> class_names(const Model& model) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < model.classes(); ++i) names.push_back(model.label(i));
  return names;
}

std::vector<LabelledImage> labelled_images(const BatchOptions& options, const Model& model) {
  if (options.eval.empty()) return {};
  std::vector<LabelledImage> images =
      list_labelled_images(options.eval, list_images(options.inputs), class_names(model));
  for (const LabelledImage& image : images) {
    // One label for many images, which nobody could tell apart.
    if (has_archive_extension(image.path)) {
      throw Error(ErrorCode::kInvalidArgument,
                  image.path.string() + ": --eval takes no archives; unpack it first");
    }
  }
  return images;
}

Wanted wanted_of(const BatchOptions& options) {
  Wanted wanted = options.wanted;
  wanted.logits = !options.logits.empty();
  if (!options.eval.empty()) wanted.top_k = std::max(wanted.top_k, kEvaluated);
  return wanted;
}

bool contains(const Outcome& outcome, std::size_t label, std::size_t k) {
  const auto end =
      outcome.top.begin() + static_cast<std::ptrdiff_t>(std::min(k, outcome.top.size()));
  return std::any_of(outcome.top.begin(), end,
                     [&](const RankedClass& ranked) { return ranked.prediction.index == label; });
}

/// Takes the outcomes of the pipeline and writes them. With rows of an earlier run:
///
///   images 0 .. start - 1          are skipped: rows and whole tensor files are there
///   start .. earlier.images() - 1  are computed again, and rows compared with the file's, which
///                                  stay: from the last one that was classified, whose rows tell
///                                  model and options, or the first one in no whole tensor file
///   earlier.images() ...           are new: the file is cut behind the last whole row first
class Batch {
 public:
  Batch(const BatchOptions& options, const Model& model)
      : options_(options),
        model_(model),
        wanted_(wanted_of(options)),
        labelled_(labelled_images(options, model)),
        source_(paths(), options.shard, options.limits.max_file_bytes),
        writer_(make_row_writer(options.format, model)),
        tensors_(options, model),
        output_(options.output, options.resume      ? Existing::kContinue
                                : options.overwrite ? Existing::kReplace
                                                    : Existing::kRefuse) {}

  int run() {
    prepare();
    skip();
    // Until here a signal may end the process: nothing is begun.
    hold_signals();
    const auto start = Clock::now();
    const std::size_t threads = options_.threads == 0 ? available_cpus() : options_.threads;
    // The only image is shared by all threads; otherwise each has its own.
    const bool single = options_.eval.empty() && options_.inputs.size() == 1 &&
                        names_one_file(options_.inputs[0]) &&
                        !has_archive_extension(options_.inputs[0]);
    const ImageCounter counter(options_.eval.empty() ? options_.inputs : std::vector<std::string>(),
                               options_.shard);
    std::optional<ThreadPool> pool;
    if (single && threads > 1) pool.emplace(threads);
    Pipeline pipeline(
        source_, single ? 1 : threads,
        [&] {
          return std::make_unique<Worker>(model_, options_.limits, wanted_,
                                          pool ? &*pool : nullptr);
        },
        tensors_.empty_job(), stop_);
    summary_.threads = threads;
    take_all(pipeline, counter);
    return end(pipeline, std::chrono::duration<double>(Clock::now() - start).count());
  }

 private:
  ImageSource::Paths paths() {
    if (!options_.eval.empty()) {
      return [this, next = std::size_t{0}]() mutable -> std::optional<std::filesystem::path> {
        if (next == labelled_.size()) return {};
        return labelled_[next++].path;
      };
    }
    return
        [stream = std::make_shared<PathStream>(options_.inputs, &stop_)] { return stream->next(); };
  }

  /// What is there of an earlier run.
  void prepare() {
    if (options_.resume) {
      earlier_.emplace(options_.output, options_.format, std::min(wanted_.top_k, model_.classes()));
    }
    // Without rows to go on behind, files are those of another run.
    if (!earlier_ || earlier_->images() == 0) tensors_.clear(options_.overwrite);
    appending_ = !earlier_;
    if (earlier_ && earlier_->end() == 0) append_behind_earlier();
    if (appending_) output_.append(row_header(options_.format));
  }

  /// Goes to the first image to compute. The images' names must be those of the rows.
  void skip() {
    if (!earlier_ || earlier_->images() == 0) return;
    start_ = tensors_.skippable(earlier_->last_telling());
    for (std::size_t i = 0; i < start_; ++i) {
      if (!source_.next()) earlier_->fail_more();
      summary_.failed += earlier_->next(source_.name()).failed;
      tensors_.check_name(i, source_.name());
    }
    tensors_.start(start_);
    summary_.images = start_;
  }

  void take_all(Pipeline& pipeline, const ImageCounter& counter) {
    // Rows on the terminal show the progress themselves.
    const bool bar = !options_.output.empty() || ::isatty(STDOUT_FILENO) == 0;
    Progress progress(0, "images", {bar, kProgressEvery, start_});
    auto flushed = Clock::now();
    const double cpu = thread_cpu_seconds();
    try {
      while (!pipeline.ended()) {
        std::unique_ptr<Job> job =
            pipeline.next(output_.buffered() ? kFlushEvery / 2 : kFlushEvery);
        if (job) {
          take(*job, progress);
          pipeline.recycle(std::move(job));
          progress.set_total(counter.total());
          progress.update(summary_.images);
        }
        if (output_.buffered() && Clock::now() - flushed >= kFlushEvery) {
          output_.flush();
          flushed = Clock::now();
        }
        const bool too_many =
            options_.max_failures != 0 && summary_.failed >= options_.max_failures;
        if (too_many) break;
        if (held_signal() != 0) pipeline.stop();
      }
    } catch (...) {
      // The rows so far are good, whatever ends the run.
      flush_quietly();
      throw;
    }
    summary_.times = pipeline.times();
    summary_.output_cpu = thread_cpu_seconds() - cpu;
  }

  void flush_quietly() {
    try {
      if (appending_) output_.flush();
    } catch (const Error&) {
      // Another error is on its way.
    }
  }

  void take(Job& job, Progress& progress) {
    std::optional<std::size_t> label;
    if (!labelled_.empty()) label = labelled_[summary_.images].label;
    if (label && job.outcome.error.empty()) {
      summary_.top1 += contains(job.outcome, *label, 1);
      summary_.top5 += contains(job.outcome, *label, kEvaluated);
    }
    job.outcome.top.resize(std::min(job.outcome.top.size(), options_.wanted.top_k));
    rows_.clear();
    if (earlier_ && earlier_->more()) {
      compare(job);
    } else {
      append_behind_earlier();
      writer_->append(rows_, job.name, job.outcome, label);
      output_.append(rows_);
    }
    if (!job.outcome.error.empty()) {
      ++summary_.failed;
      progress.clear();
      std::fprintf(stderr, "intaglio-classify: %s\n", terminal_text(job.outcome.error).c_str());
    }
    ++summary_.images;
    // Rows come first: so there is never a row less than the tensor files have.
    if (tensors_.almost_full()) output_.flush();
    if (tensors_.any()) tensors_.append(job);
  }

  /// A row that is in the file already.
  void compare(Job& job) {
    const RowGroup group = earlier_->next(job.name);
    if (group.failed) {
      // Whatever the image is today, its row says that it failed.
      if (job.outcome.error.empty()) job.outcome.error = job.name + ": could not be read before";
      job.clear_tensors();
      return;
    }
    if (!job.outcome.error.empty()) {
      throw Error(ErrorCode::kIo,
                  earlier_->place() + ": cannot be computed again: " + job.outcome.error);
    }
    writer_->append(rows_, job.name, job.outcome, {});
    if (rows_ != group.text) {
      throw Error(
          ErrorCode::kInvalidArgument,
          earlier_->place() + ": made with another model or other options: " + group.shown());
    }
  }

  void append_behind_earlier() {
    if (appending_) return;
    output_.cut(earlier_->end());
    appending_ = true;
  }

  int end(Pipeline& pipeline, double seconds) {
    const bool complete = pipeline.ended() && held_signal() == 0;
    if (complete && earlier_ && earlier_->more()) earlier_->fail_more();
    if (complete && source_.listed() == 0) {
      throw Error(ErrorCode::kInvalidArgument, "no images found");
    }
    append_behind_earlier();
    if (!pipeline.ended()) return give_up();
    if (held_signal() != 0) interrupt();
    output_.flush();  // rows come first, here, too
    tensors_.finish();
    summary_.first = start_;
    summary_.seconds = seconds;
    const bool in_output = append_summary();
    // A full disk may be told at the very end: nothing looks like success before.
    output_.close();
    print_summary(in_output);
    return summary_.failed == 0 ? 0 : kExitSomeFailed;
  }

  const char* how_to_resume() const {
    const bool can =
        !options_.output.empty() && options_.format != RowFormat::kText && options_.eval.empty();
    if (!can) return "";
    return options_.overwrite ? "; the same command with --resume for --overwrite goes on there"
                              : "; the same command with --resume goes on there";
  }

  int give_up() {
    output_.close();
    std::fprintf(stderr, "intaglio-classify: given up after %zu images: %zu failed, the limit%s\n",
                 summary_.images, summary_.failed, how_to_resume());
    return kExitFailures;
  }

  [[noreturn]] void interrupt() {
    output_.close();
    std::fprintf(stderr, "intaglio-classify: interrupted after %zu images%s\n", summary_.images,
                 how_to_resume());
    die_by(held_signal());
  }

  /// Whether the summary belongs to the rows.
  bool append_summary() {
    const bool eval = !options_.eval.empty();
    if (eval && options_.format == RowFormat::kJson) {
      output_.append(summary_json(summary_) + '\n');
      return true;
    }
    if (options_.format != RowFormat::kText || !options_.output.empty()) return false;
    output_.append(summary_text(summary_, eval) + '\n');
    return true;
  }

  void print_summary(bool in_output) const {
    if (!in_output) {
      std::fprintf(stderr, "%s\n", summary_text(summary_, !options_.eval.empty()).c_str());
    }
    const std::string stages = stages_text(summary_);
    if (!stages.empty()) std::fprintf(stderr, "%s\n", stages.c_str());
  }

  const BatchOptions& options_;
  const Model& model_;
  Wanted wanted_;
  std::atomic<bool> stop_ = false;
  std::vector<LabelledImage> labelled_;
  ImageSource source_;
  std::unique_ptr<RowWriter> writer_;
  BatchTensors tensors_;
  OutputFile output_;
  std::optional<EarlierRows> earlier_;
  std::size_t start_ = 0;   // images that were skipped
  bool appending_ = false;  // all that comes is new
  std::string rows_;
  Summary summary_;
};

}  // namespace

int run_batch(const BatchOptions& options, const Model& model) {
  return Batch(options, model).run();
}

}  // namespace intaglio
