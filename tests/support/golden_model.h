// A calibrated checkpoint of the reference with the codes its quantizers gave ("taps").
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "converters/fqvit_import.h"
#include "graph/graph.h"
#include "graph/safetensors.h"

namespace intaglio::test {

struct GoldenModel {
  std::string name;
  CalibratedNetwork model;
  Graph graph;
  Safetensors taps;

  std::size_t images() const { return taps.at("input_u8").shape[0]; }
  bool has_tap(const std::string& tap) const { return taps.find(tap) != nullptr; }
  /// Codes of image `image` as the reference has them; constants that are the same for all images
  /// are stored once. Of attention with windows: window by window.
  std::span<const std::uint8_t> tap(const std::string& tap, std::size_t image) const;
  /// The same in the order of a map's rows.
  std::vector<std::uint8_t> rows(const std::string& tap, std::size_t image) const;
};

/// Where the reference has the tokens of a map that windows cut: its cyclic shift moves the first
/// rows and columns behind the last.
class Windows {
 public:
  /// One window of everything where the op has none.
  Windows(const Graph& graph, const AttentionOp& op);

  std::size_t count() const { return count_; }
  std::size_t tokens() const { return tokens_; }  ///< of a window
  /// Tokens window by window, in the order of the map's rows.
  std::vector<std::uint8_t> map_of(std::span<const std::uint8_t> tokens) const;
  /// Whether two tokens of a window are neighbours in the map, not brought together by the shift.
  bool together(std::size_t window, std::size_t a, std::size_t b) const {
    return at(window, a).piece == at(window, b).piece;
  }

 private:
  struct Place {
    std::size_t row;
    int piece;
  };
  const Place& at(std::size_t window, std::size_t token) const {
    return places_[window * tokens_ + token];
  }

  std::size_t count_, tokens_;
  std::vector<Place> places_;
};

/// Names of all golden models: those in the repository, and those of the shared data.
std::vector<std::string> golden_model_names();
/// Empty, and said loudly, where the data is absent.
std::optional<GoldenModel> load_golden_model(const std::string& name);

}  // namespace intaglio::test
