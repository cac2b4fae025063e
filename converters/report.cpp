#include "converters/report.h"

#include <nlohmann/json.hpp>
#include <span>

namespace intaglio {
namespace {

using Json = nlohmann::ordered_json;

Json json_of(const GridFit& fit) {
  return {{"snr_db", fit.snr_db},
          {"local_snr_db", fit.local_snr_db},
          {"float_range", {fit.float_low, fit.float_high}},
          {"grid_range", {fit.grid_low, fit.grid_high}},
          {"clipped_low", fit.clipped_low},
          {"clipped_high", fit.clipped_high},
          {"codes_used", fit.codes_used},
          {"codes_all", fit.codes_all}};
}

const char* form_name(SoftmaxForm form) {
  return form == SoftmaxForm::kRowRelative ? "row_relative"
         : form == SoftmaxForm::kUniform   ? "uniform"
                                           : "log_int";
}

Json json_of(const TensorAccuracy& tensor) {
  Json json = {{"name", tensor.name},    {"layer", tensor.layer},       {"kind", tensor.kind},
               {"rows", tensor.rows},    {"channels", tensor.channels}, {"codes", tensor.codes},
               {"stream", tensor.stream}};
  json.update(json_of(tensor.fit));
  if (!tensor.exponent_counts.empty()) json["exponent_counts"] = tensor.exponent_counts;
  if (tensor.weight_snr_db) json["weight_snr_db"] = *tensor.weight_snr_db;
  if (const auto& attention = tensor.attention) {
    json["attention"] = {{"form", form_name(attention->form)},
                         {"zero_code", attention->zero_code},
                         {"code_shares", attention->code_shares},
                         {"scores", json_of(attention->scores)}};
  }
  return json;
}

Json json_of(const AccuracySummary& s) {
  const auto percent = [](std::size_t part, std::size_t all) {
    return all == 0 ? Json() : Json(100 * double(part) / double(all));
  };
  return {{"images", s.images},
          {"labelled", s.labelled},
          {"classes", s.classes},
          {"float_top1", percent(s.float_right, s.labelled)},
          {"integer_top1", percent(s.integer_right, s.labelled)},
          {"agreement", percent(s.agreeing, s.images)},
          {"logit_rmse", s.logit_rmse},
          {"logit_max_error", s.logit_max_error},
          {"float_bytes", s.float_bytes},
          {"integer_bytes", s.integer_bytes}};
}

}  // namespace

std::string json_report(const AccuracyReport& report) {
  Json json = {{"model", report.model},
               {"method", report.method},
               {"summary", json_of(report.accuracy.summary)},
               {"tensors", Json::array()}};
  for (const TensorAccuracy& t : report.accuracy.tensors) json["tensors"].push_back(json_of(t));
  // Names are bytes of a file, not necessarily UTF-8.
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace intaglio
