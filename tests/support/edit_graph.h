// Changes to graphs, for tests that spoil them.
#pragma once

#include <catch2/catch.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace intaglio::test {

inline ValueId id_of(const Graph& graph, const std::string& name) {
  for (ValueId id = 0; id < graph.values.size(); ++id) {
    if (graph.values[id].name == name) return id;
  }
  FAIL("no value " << name);
  return 0;
}
inline Value& value(Graph& graph, const std::string& name) {
  return graph.values[id_of(graph, name)];
}
template <typename OpT>
OpT& op(Graph& graph) {
  for (Op& candidate : graph.ops) {
    if (auto* params = std::get_if<OpT>(&candidate.params)) return *params;
  }
  FAIL("no such operation");
  throw std::logic_error("unreachable");
}

template <typename T>
void set(Constant<T>& constant, std::size_t at, T element) {
  std::vector<T> elements(constant.view().begin(), constant.view().end());
  elements.at(at) = element;
  constant = Constant<T>(constant.shape(), std::move(elements));
}
template <typename T>
void reshape(Constant<T>& constant, std::vector<std::size_t> shape) {
  std::size_t size = 1;
  for (const std::size_t n : shape) size *= n;
  constant = Constant<T>(std::move(shape), std::vector<T>(size));
}

/// Turns the first attention into the row-relative form.
inline void make_row_relative(Graph& g) {
  auto& attention = op<AttentionOp>(g);
  attention.form = SoftmaxForm::kRowRelative;
  attention.zero_code = 15;
  attention.exponentials = {};
  reshape(attention.codes, {256});
}

/// Turns the first attention into the uniform form.
inline void make_uniform(Graph& g) {
  auto& attention = op<AttentionOp>(g);
  attention.form = SoftmaxForm::kUniform;
  reshape(attention.exponentials, {256});
  set(attention.exponentials, 0, std::uint64_t{1} << 20);
  reshape(attention.probability_factor, {1});
}

}  // namespace intaglio::test
