// check() on graphs that are wrong in one thing each: the proof that the engine rests on.
#include <cmath>
#include <functional>
#include <limits>

#include "graph/check.h"
#include "kernels/kernels.h"
#include "tests/support/edit_graph.h"
#include "tests/support/expect_error.h"
#include "tests/support/tiny_vit.h"

namespace intaglio::test {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::int32_t kMax32 = std::numeric_limits<std::int32_t>::max();
constexpr std::int32_t kMin32 = std::numeric_limits<std::int32_t>::min();
constexpr std::int64_t kMax64 = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kMin64 = std::numeric_limits<std::int64_t>::min();

struct Mutation {
  const char* name;
  std::function<void(Graph&)> apply;
  std::string piece;
  ErrorCode code = ErrorCode::kFormat;
};

/// The tiny network has every operation; each mutation spoils a fresh copy.
void check_mutations(const std::vector<Mutation>& mutations) {
  const Graph sound = lowered(tiny_vit(), {"a", "b", "c"});
  REQUIRE_NOTHROW(check(sound));
  for (const Mutation& mutation : mutations) {
    INFO(mutation.name);
    Graph graph = sound;
    mutation.apply(graph);
    check_error([&] { check(graph); }, mutation.code, mutation.piece);
  }
}

const std::vector<Mutation> kValues = {
    {"no values", [](Graph& g) { g.values.clear(); }, "empty"},
    {"no operations", [](Graph& g) { g.ops.clear(); }, "empty"},
    {"too many operations", [](Graph& g) { g.ops.resize(10'001, g.ops[0]); }, "more than 10000",
     ErrorCode::kLimit},
    {"no name", [](Graph& g) { g.values[3].name = ""; }, "1 to 1024 characters"},
    {"long name", [](Graph& g) { g.values[3].name.resize(1025, 'x'); }, "1 to 1024 characters"},
    {"one name twice", [](Graph& g) { g.values[3].name = g.values[2].name; }, "has this name"},
    {"float", [](Graph& g) { g.values[3].dtype = DType::kF32; }, "u8, s16 or s32"},
    {"1 dimension", [](Graph& g) { g.values[3].shape = {8}; }, "2 or 3 dimensions"},
    {"4 dimensions",
     [](Graph& g) {
       g.values[3].shape = {1, 1, 1, 8};
     },
     "2 or 3 dimensions"},
    {"no rows",
     [](Graph& g) {
       g.values[3].shape = {0, 8};
     },
     "impossible shape"},
    {"2^80 bytes",
     [](Graph& g) {
       g.values[3].shape = {1ULL << 40, 1ULL << 40};
     },
     "impossible shape"},
    {"gigabytes",
     [](Graph& g) {
       g.values[3].shape = {1ULL << 20, 1ULL << 12};
     },
     "more than the model's parameters justify", ErrorCode::kLimit},
    {"scale 0", [](Graph& g) { g.values[3].grid.scale = 0; }, "positive and finite"},
    {"scale -1", [](Graph& g) { g.values[3].grid.scale = -1; }, "positive and finite"},
    {"scale NaN", [](Graph& g) { g.values[3].grid.scale = kNaN; }, "positive and finite"},
    {"scale infinite", [](Graph& g) { g.values[3].grid.scale = kInfinity; }, "positive and finite"},
    {"zero point 256", [](Graph& g) { g.values[3].grid.zero_point = 256; },
     "zero_point is 256, allowed is 0 to 255"},
    {"zero point -1", [](Graph& g) { g.values[3].grid.zero_point = -1; }, "zero_point is -1"},
    {"zero point of s16", [](Graph& g) { value(g, "blocks.0.mlp.fc1").grid.zero_point = 1; },
     "zero_point is 1, allowed is 0 to 0"},
    {"zero point of the logits", [](Graph& g) { value(g, "logits").grid.zero_point = 1; },
     "zero_point is 1, allowed is 0 to 0"},
    {"exponent 8", [](Graph& g) { value(g, "qact1").grid.exponents[0] = 8; },
     "exponent is 8, allowed is 0 to 7"},
    {"too few exponents", [](Graph& g) { value(g, "qact1").grid.exponents.pop_back(); },
     "exponents must be one per channel"},
};

const std::vector<Mutation> kEnds = {
    {"no such input", [](Graph& g) { g.input = g.values.size(); }, "input or output is no value"},
    {"no such output", [](Graph& g) { g.output = SIZE_MAX; }, "input or output is no value"},
    {"input of another type", [](Graph& g) { g.values[g.input].dtype = DType::kS16; },
     "input must be u8"},
    {"input with 4 channels",
     [](Graph& g) {
       g.values[g.input].shape = {8, 8, 4};
     },
     "input must be u8"},
    {"input a matrix", [](Graph& g) { g.input = id_of(g, "qact1"); }, "input must be u8"},
    {"image too large",
     [](Graph& g) {
       g.values[g.input].shape = {8, 4097, 3};
     },
     "up to 4096"},
    {"output u8", [](Graph& g) { g.output = id_of(g, "class_token"); }, "output must be s32"},
    {"two rows of logits",
     [](Graph& g) {
       value(g, "logits").shape = {2, 3};
     },
     "output must be s32 [1, classes]"},
    {"preprocessing to another size", [](Graph& g) { g.preprocessing.width = 9; },
     "does not give the shape"},
    {"no resize", [](Graph& g) { g.preprocessing.resize = 0; }, "does not give the shape"},
    {"resize too large", [](Graph& g) { g.preprocessing.resize = 8193; }, "does not give"},
    {"mean NaN", [](Graph& g) { g.preprocessing.mean[1] = kNaN; }, "must be finite"},
    {"std infinite", [](Graph& g) { g.preprocessing.std[2] = kInfinity; }, "must be finite"},
    {"a label too few", [](Graph& g) { g.labels.pop_back(); }, "2 labels for 3 classes"},
    {"a label too many", [](Graph& g) { g.labels.push_back("d"); }, "4 labels for 3 classes"},
};

const std::vector<Mutation> kOrder = {
    {"used before it is made", [](Graph& g) { std::swap(g.ops[3], g.ops[4]); },
     "is used before it is made"},
    {"reads its own result", [](Graph& g) { op<LookupOp>(g).src = op<LookupOp>(g).dst; },
     "is used before it is made"},
    {"made twice", [](Graph& g) { g.ops.push_back(g.ops[1]); }, "is made twice"},
    {"the image is made", [](Graph& g) { op<LookupOp>(g).dst = g.input; }, "is made twice"},
    {"result is operand", [](Graph& g) { op<LookupOp>(g).dst = op<LookupOp>(g).src; },
     "is made twice"},
    {"operand is no value", [](Graph& g) { op<LinearOp>(g).src = g.values.size(); },
     "an operand is no value"},
    {"result is no value", [](Graph& g) { op<LinearOp>(g).dst = SIZE_MAX; },
     "the result is no value"},
    {"the logits are read",
     [](Graph& g) {
       SelectRowsOp again;
       again.src = g.output;
       g.ops.push_back({"again", again});
     },
     "logits are read"},
    {"nothing makes it",
     [](Graph& g) {
       g.values.push_back(value(g, "class_token"));
       g.values.back().name = "orphan";
     },
     "no operation makes value 'orphan'"},
};

const std::vector<Mutation> kEmbedding = {
    {"patches of no image",
     [](Graph& g) {
       PatchesOp again = op<PatchesOp>(g);
       again.src = again.dst;
       again.dst = op<LinearOp>(g).dst;
       g.ops[1] = {"again", again};
     },
     "patches are made of the input image"},
    {"patch 0", [](Graph& g) { op<PatchesOp>(g).patch = 0; }, "patch is 0, allowed is 1 to 1024"},
    {"patch -4", [](Graph& g) { op<PatchesOp>(g).patch = -4; }, "patch is -4"},
    {"patch 3", [](Graph& g) { op<PatchesOp>(g).patch = 3; }, "must divide the image"},
    {"patch 8", [](Graph& g) { op<PatchesOp>(g).patch = 8; }, "the result must be [patches"},
    {"pixel table",
     [](Graph& g) {
       reshape(op<PatchesOp>(g).table, {256, 3});
     },
     "table has shape [256, 3], expected [3, 256]"},
    {"lookup table", [](Graph& g) { reshape(op<LookupOp>(g).table, {255}); },
     "table has shape [255], expected [256]"},
    {"lookup changes the shape",
     [](Graph& g) {
       value(g, "qact_embed").shape = {4, 9};
     },
     "must have one shape"},
    {"lookup of the image", [](Graph& g) { op<LookupOp>(g).src = g.input; },
     "'image' is the image: only patches read it"},
    {"prefix of rank 1", [](Graph& g) { reshape(op<EmbedOp>(g).prefix, {8}); },
     "prefix must be [rows, channels]"},
    {"prefix too wide",
     [](Graph& g) {
       reshape(op<EmbedOp>(g).prefix, {1, 9});
     },
     "prefix must be [rows, channels]"},
    {"two rows of prefix",
     [](Graph& g) {
       reshape(op<EmbedOp>(g).prefix, {2, 8});
     },
     "the prefix's and the patches' rows"},
    {"2^60 rows of prefix",
     [](Graph& g) {
       op<EmbedOp>(g).prefix = Constant<std::int16_t>({1ULL << 60, 8}, {});
     },
     "the prefix's and the patches' rows"},
    {"prefix without elements",
     [](Graph& g) {
       op<EmbedOp>(g).prefix = Constant<std::int16_t>({1, 8}, {});
     },
     "prefix has"},
    {"position",
     [](Graph& g) {
       reshape(op<EmbedOp>(g).position, {5, 8});
     },
     "position has shape [5, 8], expected [4, 8]"},
    {"zero point of the position", [](Graph& g) { op<EmbedOp>(g).position_zero_point = 256; },
     "position_zero_point is 256"},
    {"negative multiplier", [](Graph& g) { op<EmbedOp>(g).src_multiplier = -1; },
     "multiplier is -1, allowed is 0"},
    {"large multiplier", [](Graph& g) { op<EmbedOp>(g).position_multiplier = kMax32; },
     "the sum can overflow 32 bits"},
    {"shift 0", [](Graph& g) { op<EmbedOp>(g).shift = 0; }, "shift is 0, allowed is 1 to 23"},
    {"shift 24", [](Graph& g) { op<EmbedOp>(g).shift = 24; }, "shift is 24"},
    {"patches with exponents", [](Graph& g) { value(g, "qact_embed").grid.exponents.assign(8, 1); },
     "must have one scale"},
    {"prefix code 256", [](Graph& g) { set(op<EmbedOp>(g).prefix, 7, std::int16_t{256}); },
     "prefix is 256, allowed is 0 to 255"},
    {"position code -1", [](Graph& g) { set(op<EmbedOp>(g).position, 0, std::int16_t{-1}); },
     "position is -1, allowed is 0 to 255"},
    {"s16 stream of u8 patches",
     [](Graph& g) { value(g, "qact1").dtype = DType::kS16, value(g, "qact1").grid = {}; },
     "expected I16 [rows, channels]"},
};

const std::vector<Mutation> kLayers = {
    {"norm's multiplier", [](Graph& g) { reshape(op<LayerNormOp>(g).multiplier, {7}); },
     "multiplier has shape [7], expected [8]"},
    {"norm's bias",
     [](Graph& g) {
       reshape(op<LayerNormOp>(g).bias, {1, 8});
     },
     "bias has shape [1, 8], expected [8]"},
    {"norm's shift 0", [](Graph& g) { op<LayerNormOp>(g).shift = 0; }, "allowed is 1 to 62"},
    {"norm's shift 63", [](Graph& g) { op<LayerNormOp>(g).shift = 63; }, "shift is 63"},
    {"norm's largest bias", [](Graph& g) { set(op<LayerNormOp>(g).bias, 2, kMax64); },
     "channel 2 can overflow 64 bits"},
    {"norm's smallest bias", [](Graph& g) { set(op<LayerNormOp>(g).bias, 7, kMin64); },
     "channel 7 can overflow 64 bits"},
    {"norm onto exponents",
     [](Graph& g) { value(g, "blocks.0.qact1").grid.exponents.assign(8, 0); }, "one scale"},
    {"weight transposed",
     [](Graph& g) {
       reshape(op<LinearOp>(g).weight, {48, 8});
     },
     "weight has shape [48, 8], expected [8, 48]"},
    {"linear's multiplier", [](Graph& g) { reshape(op<LinearOp>(g).multiplier, {9}); },
     "multiplier has shape [9], expected [8]"},
    {"linear's bias", [](Graph& g) { reshape(op<LinearOp>(g).bias, {}); },
     "bias has shape [], expected [8]"},
    {"linear's shift -1", [](Graph& g) { op<LinearOp>(g).shift = -1; }, "shift is -1"},
    {"linear's shift 63", [](Graph& g) { op<LinearOp>(g).shift = 63; }, "shift is 63"},
    {"linear's largest bias", [](Graph& g) { set(op<LinearOp>(g).bias, 0, kMax64); },
     "channel 0 can overflow 64 bits"},
    {"linear's smallest bias", [](Graph& g) { set(op<LinearOp>(g).bias, 0, kMin64); },
     "channel 0 can overflow 64 bits"},
    {"product and bias",
     [](Graph& g) {
       set(op<LinearOp>(g).multiplier, 1, kMin32);
       set(op<LinearOp>(g).bias, 1, kMax64 - (std::int64_t{1} << 32));
     },
     "channel 1 can overflow 64 bits"},
    {"residual of another shape", [](Graph& g) { op<LinearOp>(g).residual = 0; },
     "'image' is the image"},
    {"residual's multiplier", [](Graph& g) { reshape(op<LinearOp>(g).residual_multiplier, {8}); },
     "residual_multiplier without a residual"},
    {"linear drops a row",
     [](Graph& g) {
       value(g, "patch_embed.qact").shape = {3, 8};
     },
     "must have the same rows"},
    {"linear from s16",
     [](Graph& g) {
       value(g, "blocks.0.mlp.qact1").dtype = DType::kS16, value(g, "blocks.0.mlp.qact1").grid = {};
     },
     "'blocks.0.mlp.qact1' is I16 [5, 16], expected U8"},
};

const std::vector<Mutation> kAttention = {
    {"no heads", [](Graph& g) { op<AttentionOp>(g).heads = 0; }, "heads is 0"},
    {"negative heads", [](Graph& g) { op<AttentionOp>(g).heads = kMin32; }, "heads is -2147483648"},
    {"three heads", [](Graph& g) { op<AttentionOp>(g).heads = 3; }, "must divide the channels"},
    {"more heads than channels", [](Graph& g) { op<AttentionOp>(g).heads = 16; }, "heads is 16"},
    {"row-relative without codes",
     [](Graph& g) { op<AttentionOp>(g).form = SoftmaxForm::kRowRelative; },
     "codes has shape [], expected [256]"},
    {"row-relative with exponentials",
     [](Graph& g) {
       make_row_relative(g);
       reshape(op<AttentionOp>(g).exponentials, {256});
     },
     "exponentials do not belong to"},
    {"row-relative with 16 codes",
     [](Graph& g) {
       make_row_relative(g);
       op<AttentionOp>(g).zero_code = 16;
     },
     "zero_code is 16"},
    {"row-relative, code of the maximum",
     [](Graph& g) {
       make_row_relative(g);
       set(op<AttentionOp>(g).codes, 0, std::uint8_t{1});
     },
     "maximum must have code 0"},
    {"row-relative, negative factor",
     [](Graph& g) {
       make_row_relative(g);
       op<AttentionOp>(g).attend_multiplier = -1;
     },
     "attend_multiplier is -1"},
    {"row-relative, unit",
     [](Graph& g) {
       make_row_relative(g);
       op<AttentionOp>(g).unit_bits = 16;
     },
     "unit_bits is 16"},
    {"log-int with codes", [](Graph& g) { reshape(op<AttentionOp>(g).codes, {256}); },
     "codes belong to"},
    {"weights, first",
     [](Graph& g) {
       make_row_relative(g);
       op<AttentionOp>(g).weights = Constant<std::uint16_t>({16}, std::vector<std::uint16_t>(16));
     },
     "the row maximum must weigh"},
    {"log-int, unit", [](Graph& g) { op<AttentionOp>(g).unit_bits = 14; }, "unit_bits is 14"},
    {"uniform without a factor", [](Graph& g) { op<AttentionOp>(g).form = SoftmaxForm::kUniform; },
     "probability_factor has shape [], expected [1]"},
    {"uniform without exponentials",
     [](Graph& g) {
       make_uniform(g);
       op<AttentionOp>(g).exponentials = {};
     },
     "exponentials has shape [], expected [256]"},
    {"uniform with codes",
     [](Graph& g) {
       make_uniform(g);
       reshape(op<AttentionOp>(g).codes, {256});
     },
     "codes belong to"},
    {"uniform, zero code",
     [](Graph& g) {
       make_uniform(g);
       op<AttentionOp>(g).zero_code = 15;
     },
     "zero_code is 15"},
    {"uniform, unit",
     [](Graph& g) {
       make_uniform(g);
       op<AttentionOp>(g).unit_bits = 14;
     },
     "unit_bits is 14"},
    {"uniform, negative factor",
     [](Graph& g) {
       make_uniform(g);
       op<AttentionOp>(g).attend_multiplier = -1;
     },
     "attend_multiplier is -1"},
    {"uniform, exponentials of 0",
     [](Graph& g) {
       make_uniform(g);
       set(op<AttentionOp>(g).exponentials, 0, std::uint64_t{0});
     },
     "exponentials[0] must be in"},
    {"uniform, rising exponentials",
     [](Graph& g) {
       make_uniform(g);
       set(op<AttentionOp>(g).exponentials, 255, std::uint64_t{1});
     },
     "must fall"},
    {"log-int with a probability factor",
     [](Graph& g) { reshape(op<AttentionOp>(g).probability_factor, {1}); },
     "a probability_factor belongs to"},
    {"zero code 14", [](Graph& g) { op<AttentionOp>(g).zero_code = 14; }, "zero_code is 14"},
    {"zero code 17", [](Graph& g) { op<AttentionOp>(g).zero_code = 17; }, "zero_code is 17"},
    {"score scale NaN", [](Graph& g) { op<AttentionOp>(g).score_scale = kNaN; }, "score_scale"},
    {"score scale 0", [](Graph& g) { op<AttentionOp>(g).score_scale = 0; }, "score_scale"},
    {"score zero point", [](Graph& g) { op<AttentionOp>(g).score_zero_point = 256; },
     "score_zero_point is 256"},
    {"score shift", [](Graph& g) { op<AttentionOp>(g).score_shift = 0; }, "score_shift is 0"},
    {"attend shift", [](Graph& g) { op<AttentionOp>(g).attend_shift = 63; }, "attend_shift is 63"},
    {"255 exponentials", [](Graph& g) { reshape(op<AttentionOp>(g).exponentials, {255}); },
     "exponentials has shape [255]"},
    {"exponentials[0] = 0",
     [](Graph& g) { set(op<AttentionOp>(g).exponentials, 0, std::uint64_t{0}); },
     "exponentials[0] must be positive"},
    {"exponentials[0] huge", [](Graph& g) { set(op<AttentionOp>(g).exponentials, 0, UINT64_MAX); },
     "the softmax can overflow 64 bits"},
    {"exponentials[255] too large",
     [](Graph& g) { set(op<AttentionOp>(g).exponentials, 255, std::uint64_t{1} << 47); },
     "the softmax can overflow 64 bits"},
    {"operand too narrow", [](Graph& g) { op<AttentionOp>(g).src = id_of(g, "blocks.0.qact1"); },
     "must be [tokens, 3 * channels]"},
    {"tokens lost",
     [](Graph& g) {
       value(g, "blocks.0.attn.qact2").shape = {4, 8};
     },
     "must have the same rows"},
    {"attention from exponents",
     [](Graph& g) { value(g, "blocks.0.attn.qact2").grid.exponents.assign(8, 0); }, "one scale"},
};

const std::vector<Mutation> kRest = {
    {"GELU of u8", [](Graph& g) { op<GeluOp>(g).src = id_of(g, "blocks.0.qact3"); },
     "'blocks.0.qact3' is U8 [5, 8], expected I16"},
    {"GELU's multiplier", [](Graph& g) { op<GeluOp>(g).multiplier = 32768; }, "is 32768"},
    {"GELU's negative multiplier", [](Graph& g) { op<GeluOp>(g).multiplier = -1; }, "is -1"},
    {"GELU's shift 0", [](Graph& g) { op<GeluOp>(g).shift = 0; }, "allowed is 1 to 30"},
    {"GELU's shift 31", [](Graph& g) { op<GeluOp>(g).shift = 31; }, "shift is 31"},
    {"segments of 2^10", [](Graph& g) { op<GeluOp>(g).segment_bits = 10; }, "segment_bits is 10"},
    {"segments of 2^-1", [](Graph& g) { op<GeluOp>(g).segment_bits = -1; }, "segment_bits is -1"},
    {"GELU's base", [](Graph& g) { reshape(op<GeluOp>(g).base, {65}); }, "base has shape [65]"},
    {"GELU's slope", [](Graph& g) { reshape(op<GeluOp>(g).slope, {63}); }, "slope has shape [63]"},
    {"base 2^29", [](Graph& g) { set(op<GeluOp>(g).base, 63, 1 << 29); }, "the table can overflow"},
    {"smallest base", [](Graph& g) { set(op<GeluOp>(g).base, 0, kMin32); }, "can overflow 32 bits"},
    {"largest slope", [](Graph& g) { set(op<GeluOp>(g).slope, 5, kMax32); },
     "can overflow 32 bits"},
    {"smallest slope", [](Graph& g) { set(op<GeluOp>(g).slope, 5, kMin32); }, "can overflow"},
    {"GELU's shift with an exponent",
     [](Graph& g) {
       value(g, "blocks.0.mlp.qact1").grid.exponents.assign(16, 0);
       value(g, "blocks.0.mlp.qact1").grid.exponents[3] = 5;
       op<GeluOp>(g).shift = 26;
     },
     "shift is 26, allowed is 1 to 25"},
    {"addend with exponents", [](Graph& g) { op<ResidualAddOp>(g).a = id_of(g, "qact1"); },
     "must have one scale"},
    {"sum of two shapes", [](Graph& g) { op<ResidualAddOp>(g).b = id_of(g, "qact_embed"); },
     "must have one shape"},
    {"sum's multiplier a", [](Graph& g) { op<ResidualAddOp>(g).multiplier_a = kMax32; },
     "the sum can overflow 32 bits"},
    {"sum's multiplier b", [](Graph& g) { op<ResidualAddOp>(g).multiplier_b = kMax32; },
     "the sum can overflow 32 bits"},
    {"sum's negative multiplier", [](Graph& g) { op<ResidualAddOp>(g).multiplier_b = kMin32; },
     "multiplier is -2147483648"},
    {"sum's shift", [](Graph& g) { op<ResidualAddOp>(g).shift = 24; }, "allowed is 1 to 23"},
    {"exponents make the sum too large", [](Graph& g) { value(g, "qact1").grid.exponents[0] = 7; },
     "the sum can overflow 32 bits"},
    {"first row -1", [](Graph& g) { op<SelectRowsOp>(g).first = -1; }, "first is -1"},
    {"first row behind", [](Graph& g) { op<SelectRowsOp>(g).first = 5; }, "allowed is 0 to 4"},
    {"rows behind the end",
     [](Graph& g) {
       op<SelectRowsOp>(g).first = 4, value(g, "class_token").shape = {2, 8};
     },
     "reach beyond the operand"},
    {"fewer channels",
     [](Graph& g) {
       value(g, "class_token").shape = {1, 7};
       value(g, "class_token").grid.exponents.pop_back();
     },
     "must be [count, channels] or [1, count * channels]"},
    {"two rows of two side by side",
     [](Graph& g) {
       value(g, "class_token").shape = {2, 16};
       value(g, "class_token").grid.exponents.assign(16, 0);
     },
     "must be [count, channels] or [1, count * channels]"},
    {"six of five rows side by side",
     [](Graph& g) {
       value(g, "class_token").shape = {1, 48};
       value(g, "class_token").grid.exponents.assign(48, 0);
     },
     "reach beyond the operand"},
    {"rows with exponents side by side",
     [](Graph& g) {
       value(g, "class_token").shape = {1, 16};
       value(g, "class_token").grid.exponents.assign(16, 0);
     },
     "must have one grid"},
    {"rows on another grid", [](Graph& g) { value(g, "class_token").grid.zero_point ^= 1; },
     "must have one grid"},
    {"rows of other exponents", [](Graph& g) { value(g, "class_token").grid.exponents.clear(); },
     "must have one grid"},
};

}  // namespace

TEST_CASE("a graph with one wrong thing is refused, and the thing is named") {
  check_mutations(kValues);
  check_mutations(kEnds);
  check_mutations(kOrder);
  check_mutations(kEmbedding);
  check_mutations(kLayers);
  check_mutations(kAttention);
  check_mutations(kRest);
}

}  // namespace intaglio::test
