#include "engine/model.h"

#include <algorithm>

#include "engine/thread_pool.h"
#include "graph/model_file.h"
#include "graph/resize.h"

namespace intaglio {
namespace {

const kernels::KernelTable& choose_table(const LoadOptions& options) {
  const Isa isa = options.isa.value_or(kernels::best_isa());
  if (!kernels::cpu_supports(isa)) {
    throw Error(ErrorCode::kUnsupported, std::string("this CPU cannot run ") +
                                             kernels::isa_name(isa) + "; the best it has is " +
                                             kernels::isa_name(kernels::best_isa()));
  }
  return kernels::table_of(isa);
}

std::size_t threads_of(const LoadOptions& options) {
  return options.threads == 0 ? available_cpus() : options.threads;
}

}  // namespace

Model Model::load(const std::filesystem::path& path, const LoadOptions& options) {
  const std::size_t threads = threads_of(options);
  Graph graph = load_model_file(path, threads);
  return Model(std::make_shared<const Impl>(std::move(graph), choose_table(options), threads));
}

Model Model::parse(std::span<const std::byte> bytes, const std::string& name,
                   const LoadOptions& options) {
  Graph graph = parse_model(bytes, name);
  return Model(
      std::make_shared<const Impl>(std::move(graph), choose_table(options), threads_of(options)));
}

Model::Impl::Impl(Graph model_graph, const kernels::KernelTable& kernel_table, std::size_t threads)
    : table(kernel_table) {
  auto sized = std::make_shared<SizedPlan>();
  Graph& graph = sized->graph = std::move(model_graph);
  copy_small_constants(graph);  // the plans point to them
  const std::vector<std::size_t>& image = graph.values[graph.input].shape;
  sized->request = {image[0], image[1], {}};
  std::vector<ValueId> outputs = {graph.output};
  for (const Feature& feature : graph.features) outputs.push_back(feature.value);
  // Of everything that anyone may ask for, so that all weights are packed.
  sized->plan = make_plan(graph, table, outputs);
  packed = pack_weights(graph, sized->plan, threads);
  if (outputs.size() > 1) {
    sized->plan = make_plan(graph, table, std::span(outputs).first(1));
    use_packed_weights(sized->plan, packed);
  }
  own = std::move(sized);
}

std::shared_ptr<const SizedPlan> Model::Impl::plan_for(const Request& request) const {
  if (request == own->request) return own;
  const std::lock_guard lock(mutex_);
  const auto known = std::find_if(kept_.begin(), kept_.end(),
                                  [&](const auto& plan) { return plan->request == request; });
  if (known != kept_.end()) {
    std::rotate(known, known + 1, kept_.end());
    return kept_.back();
  }
  auto sized = std::make_shared<SizedPlan>();
  sized->request = request;
  sized->graph = resized(own->graph, request.height, request.width);
  std::vector<ValueId> outputs;
  for (const std::size_t i : request.features) {
    outputs.push_back(sized->graph.features.at(i).value);
  }
  if (outputs.empty()) outputs.push_back(sized->graph.output);
  sized->plan = make_plan(sized->graph, table, outputs);
  use_packed_weights(sized->plan, packed);
  if (kept_.size() == kKept) kept_.erase(kept_.begin());
  kept_.push_back(std::move(sized));
  return kept_.back();
}

std::size_t Model::height() const {
  return impl_->own->graph.values[impl_->own->graph.input].shape[0];
}
std::size_t Model::width() const {
  return impl_->own->graph.values[impl_->own->graph.input].shape[1];
}
std::size_t Model::classes() const {
  return impl_->own->graph.values[impl_->own->graph.output].shape[1];
}
double Model::logit_scale() const {
  return impl_->own->graph.values[impl_->own->graph.output].grid.scale;
}
const Preprocessing& Model::preprocessing() const {
  return impl_->own->graph.preprocessing;
}
Isa Model::isa() const {
  return impl_->table.isa;
}

bool Model::takes_any_size() const {
  return intaglio::takes_any_size(impl_->own->graph);
}

std::vector<std::string> Model::features() const {
  std::vector<std::string> names;
  for (const Feature& feature : impl_->own->graph.features) names.push_back(feature.name);
  return names;
}

std::string Model::label(std::size_t index) const {
  const auto& labels = impl_->own->graph.labels;
  return labels.empty() ? std::to_string(index) : labels.at(index);
}

std::size_t Model::multiply_accumulates() const {
  std::size_t sum = 0;
  for (const Op& op : impl_->own->graph.ops)
    sum += intaglio::multiply_accumulates(impl_->own->graph, op);
  return sum;
}

const std::vector<StepInfo>& Model::steps() const {
  return impl_->own->plan.infos;
}

std::size_t Model::session_bytes() const {
  return impl_->own->plan.alone.bytes + impl_->own->plan.scratch_bytes +
         classes() * sizeof(std::int32_t);
}

}  // namespace intaglio
