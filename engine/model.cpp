#include "engine/model.h"

#include "engine/thread_pool.h"
#include "graph/model_file.h"

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

std::size_t Model::height() const {
  return impl_->graph.values[impl_->graph.input].shape[0];
}
std::size_t Model::width() const {
  return impl_->graph.values[impl_->graph.input].shape[1];
}
std::size_t Model::classes() const {
  return impl_->graph.values[impl_->graph.output].shape[1];
}
double Model::logit_scale() const {
  return impl_->graph.values[impl_->graph.output].grid.scale;
}
const Preprocessing& Model::preprocessing() const {
  return impl_->graph.preprocessing;
}
Isa Model::isa() const {
  return impl_->table.isa;
}

std::string Model::label(std::size_t index) const {
  const auto& labels = impl_->graph.labels;
  return labels.empty() ? std::to_string(index) : labels.at(index);
}

std::size_t Model::multiply_accumulates() const {
  std::size_t sum = 0;
  for (const Op& op : impl_->graph.ops) sum += intaglio::multiply_accumulates(impl_->graph, op);
  return sum;
}

const std::vector<StepInfo>& Model::steps() const {
  return impl_->plan.infos;
}

std::size_t Model::session_bytes() const {
  return impl_->plan.arena_bytes + impl_->plan.scratch_bytes + classes() * sizeof(std::int32_t);
}

}  // namespace intaglio
