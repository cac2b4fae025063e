// The fields of every operation, listed once: file reader, file writer, printer and byte counts
// walk these lists. A visitor has
//   input(name, ValueId)  optional_input(name, std::optional<ValueId>)  output(name, ValueId)
//   constant(name, Constant<T>)  optional_constant(name, Constant<T>), which may be empty
//   integer(name, std::int32_t)  real(name, double)
//   form(name, SoftmaxForm)
// each taking the field by (const) reference. The names are those of the file format.
#pragma once

#include <type_traits>

#include "graph/graph.h"

namespace intaglio {

template <typename Op, typename T>
concept FieldsOf = std::is_same_v<std::remove_const_t<Op>, T>;

template <typename V>
void visit_fields(V& v, FieldsOf<PatchesOp> auto& op) {
  v.input("src", op.src);
  v.output("dst", op.dst);
  v.integer("patch", op.patch);
  v.constant("table", op.table);
  v.optional_constant("padding", op.padding);
}

template <typename V>
void visit_fields(V& v, FieldsOf<LookupOp> auto& op) {
  v.input("src", op.src);
  v.output("dst", op.dst);
  v.constant("table", op.table);
}

template <typename V>
void visit_fields(V& v, FieldsOf<EmbedOp> auto& op) {
  v.input("src", op.src);
  v.output("dst", op.dst);
  v.constant("prefix", op.prefix);
  v.constant("position", op.position);
  v.integer("position_zero_point", op.position_zero_point);
  v.integer("src_multiplier", op.src_multiplier);
  v.integer("position_multiplier", op.position_multiplier);
  v.integer("shift", op.shift);
}

template <typename V>
void visit_fields(V& v, FieldsOf<LayerNormOp> auto& op) {
  v.input("src", op.src);
  v.output("dst", op.dst);
  v.integer("merge", op.merge);
  v.constant("multiplier", op.multiplier);
  v.constant("bias", op.bias);
  v.integer("shift", op.shift);
}

template <typename V>
void visit_fields(V& v, FieldsOf<LinearOp> auto& op) {
  v.input("src", op.src);
  v.optional_input("residual", op.residual);
  v.output("dst", op.dst);
  v.constant("weight", op.weight);
  v.constant("multiplier", op.multiplier);
  v.constant("bias", op.bias);
  v.integer("shift", op.shift);
  v.optional_constant("residual_multiplier", op.residual_multiplier);
}

template <typename V>
void visit_fields(V& v, FieldsOf<AttentionOp> auto& op) {
  v.input("src", op.src);
  v.output("dst", op.dst);
  v.integer("heads", op.heads);
  v.form("form", op.form);
  v.integer("zero_code", op.zero_code);
  v.real("score_scale", op.score_scale);
  v.integer("score_zero_point", op.score_zero_point);
  v.integer("score_multiplier", op.score_multiplier);
  v.integer("score_shift", op.score_shift);
  v.optional_constant("exponentials", op.exponentials);
  v.optional_constant("codes", op.codes);
  v.optional_constant("probability_factor", op.probability_factor);
  v.optional_constant("weights", op.weights);
  v.integer("unit_bits", op.unit_bits);
  v.integer("attend_multiplier", op.attend_multiplier);
  v.integer("attend_shift", op.attend_shift);
  v.integer("window", op.window);
  v.integer("window_shift", op.window_shift);
  v.optional_constant("bias", op.bias);
  v.integer("bias_multiplier", op.bias_multiplier);
  v.integer("bias_shift", op.bias_shift);
  v.integer("bias_zero_point", op.bias_zero_point);
  v.optional_constant("padding", op.padding);
}

template <typename V>
void visit_fields(V& v, FieldsOf<GeluOp> auto& op) {
  v.input("src", op.src);
  v.output("dst", op.dst);
  v.integer("multiplier", op.multiplier);
  v.integer("shift", op.shift);
  v.integer("segment_bits", op.segment_bits);
  v.constant("base", op.base);
  v.constant("slope", op.slope);
}

template <typename V>
void visit_fields(V& v, FieldsOf<ResidualAddOp> auto& op) {
  v.input("a", op.a);
  v.input("b", op.b);
  v.output("dst", op.dst);
  v.integer("multiplier_a", op.multiplier_a);
  v.integer("multiplier_b", op.multiplier_b);
  v.integer("shift", op.shift);
}

template <typename V>
void visit_fields(V& v, FieldsOf<SelectRowsOp> auto& op) {
  v.input("src", op.src);
  v.output("dst", op.dst);
  v.integer("first", op.first);
}

template <typename V>
void visit_fields(V& v, FieldsOf<MeanRowsOp> auto& op) {
  v.input("src", op.src);
  v.output("dst", op.dst);
  v.integer("multiplier", op.multiplier);
  v.integer("shift", op.shift);
}

}  // namespace intaglio
