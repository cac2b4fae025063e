// PyTorch files since 1.6: a zip archive with a pickle `<prefix>/data.pkl` that describes the
// tensors, and their storages as `<prefix>/data/<key>`, stored. Names of the functions and classes
// in the pickle are those of PyTorch's modules torch and torch._utils.
#include <algorithm>
#include <array>

#include "converters/checkpoint_source.h"
#include "converters/float_tensor.h"
#include "converters/pickle.h"
#include "graph/error.h"

namespace intaglio {
namespace {

using Kind = Pickle::Kind;
using Value = Pickle::Value;

constexpr std::size_t kMaxPickleBytes = std::size_t{16} << 20;
constexpr std::size_t kMaxRank = 64;
constexpr std::string_view kDataPickle = "/data.pkl";
// As timm prefers them: weights averaged over the training before the last ones.
constexpr std::array<const char*, 5> kUsualKeys = {"state_dict_ema", "model_ema", "state_dict",
                                                   "model", "module"};

struct StorageType {
  const char* name;
  DType dtype;
};
constexpr std::array<StorageType, 10> kStorageTypes = {{{"FloatStorage", DType::kF32},
                                                        {"HalfStorage", DType::kF16},
                                                        {"BFloat16Storage", DType::kBF16},
                                                        {"DoubleStorage", DType::kF64},
                                                        {"LongStorage", DType::kS64},
                                                        {"IntStorage", DType::kS32},
                                                        {"ShortStorage", DType::kS16},
                                                        {"CharStorage", DType::kS8},
                                                        {"ByteStorage", DType::kU8},
                                                        {"BoolStorage", DType::kBool}}};

/// A strided view of a storage. Every index lies within the entry.
struct TorchTensor {
  DType dtype = DType::kF32;
  std::vector<std::size_t> shape, strides;  // in elements
  std::size_t begin = 0, end = 0;           // of the storage's elements that it spans
  ZipFile::Entry storage;
};

/// The archive's pickle and prefix.
struct TorchFile {
  std::shared_ptr<const ZipFile> zip;
  std::string prefix;  // without the '/'
  Pickle pickle;
};

TorchFile open_torch_file(std::shared_ptr<const ZipFile> zip) {
  TorchFile file{std::move(zip), {}, {}};
  const std::string& name = file.zip->name();
  const ZipFile::Entry* pickle = nullptr;
  for (const auto& [entry, where] : file.zip->entries()) {
    if (!entry.ends_with(kDataPickle)) continue;
    if (pickle != nullptr) throw Error(ErrorCode::kFormat, name + ": found data.pkl twice");
    pickle = &where;
    file.prefix = entry.substr(0, entry.size() - kDataPickle.size());
  }
  if (pickle == nullptr) throw Error(ErrorCode::kFormat, name + ": found no data.pkl");
  const auto& entries = file.zip->entries();
  const auto code = entries.lower_bound(file.prefix + "/code/");
  if (file.zip->find(file.prefix + "/constants.pkl") != nullptr ||
      (code != entries.end() && code->first.starts_with(file.prefix + "/code/"))) {
    throw Error(ErrorCode::kUnsupported,
                name +
                    ": expected tensors, found a TorchScript program; in PyTorch, "
                    "torch.save(torch.jit.load(FILE).state_dict(), NEW_FILE)");
  }
  if (const ZipFile::Entry* order = file.zip->find(file.prefix + "/byteorder")) {
    const std::vector<std::byte> text =
        file.zip->read(*order, 0, std::min<std::size_t>(6, order->size));
    if (std::string_view(reinterpret_cast<const char*>(text.data()), text.size()) != "little") {
      throw Error(ErrorCode::kUnsupported, name + ": expected little-endian tensors, found others");
    }
  }
  if (!pickle->is_stored || pickle->size > kMaxPickleBytes) {
    throw Error(ErrorCode::kLimit, name + ": expected data.pkl stored, of at most " +
                                       std::to_string(kMaxPickleBytes) + " bytes, found " +
                                       (pickle->is_stored ? std::to_string(pickle->size)
                                                          : std::string("it compressed")));
  }
  file.pickle = Pickle::parse(file.zip->read(*pickle, 0, pickle->size), name);
  return file;
}

/// Turns the description of one tensor into a view of an entry.
class TensorReader {
 public:
  TensorReader(const TorchFile& file, std::string what) : file_(file), what_(std::move(what)) {}

  /// Nothing if `value` is no tensor, or of a kind beyond this reader.
  std::optional<TorchTensor> read(const Value& value) const {
    const Value* call = &value;
    // A parameter is a tensor in a call. Arguments stand before their call, so this ends.
    while (is_call(*call, "_rebuild_parameter")) call = &argument(*call, 0);
    if (!is_call(*call, "_rebuild_tensor_v2") && !is_call(*call, "_rebuild_tensor")) return {};
    const Value& storage = argument(*call, 0);
    if (storage.kind != Kind::kPersistent) fail("expected a storage", storage);
    const Value& id = pickle().at(storage.items[0]);
    if (id.kind != Kind::kTuple || id.items.size() < 5) fail("expected a storage's id", id);

    TorchTensor tensor;
    const StorageType* type = storage_type(pickle().at(id.items[1]));
    if (type == nullptr) return {};
    tensor.dtype = type->dtype;
    const std::size_t numel = number(pickle().at(id.items[4]));
    tensor.storage = find_storage(pickle().at(id.items[2]), numel, dtype_size(tensor.dtype));
    tensor.begin = number(argument(*call, 1));
    tensor.shape = numbers(argument(*call, 2));
    tensor.strides = numbers(argument(*call, 3));
    check_view(tensor, numel);
    return tensor;
  }

 private:
  const Pickle& pickle() const { return file_.pickle; }
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::kFormat, what_ + ": " + what);
  }
  [[noreturn]] void fail(const std::string& expected, const Value& found) const {
    fail(expected + ", found " + pickle().describe(found));
  }

  bool is_call(const Value& value, std::string_view function) const {
    return value.kind == Kind::kCall &&
           pickle().is_global(pickle().at(value.items[0]), "torch._utils", function);
  }
  const Value& argument(const Value& call, std::size_t i) const {
    const Value& arguments = pickle().at(call.items[1]);
    if (arguments.kind != Kind::kTuple) fail("expected a tuple of arguments", arguments);
    if (i >= arguments.items.size()) fail("expected more arguments");
    return pickle().at(arguments.items[i]);
  }
  const StorageType* storage_type(const Value& global) const {
    const auto* type = std::ranges::find_if(kStorageTypes, [&](const StorageType& candidate) {
      return pickle().is_global(global, "torch", candidate.name);
    });
    return type == kStorageTypes.end() ? nullptr : type;
  }

  std::size_t number(const Value& value) const {
    if (value.kind != Kind::kInt || value.integer < 0) {
      fail("expected a non-negative integer of 64 bits", value);
    }
    return static_cast<std::size_t>(value.integer);
  }
  std::vector<std::size_t> numbers(const Value& tuple) const {
    if (tuple.kind != Kind::kTuple) fail("expected a tuple of sizes", tuple);
    if (tuple.items.size() > kMaxRank) {
      fail("expected at most 64 dimensions, found " + std::to_string(tuple.items.size()));
    }
    std::vector<std::size_t> values;
    for (const Pickle::Index item : tuple.items) values.push_back(number(pickle().at(item)));
    return values;
  }

  const ZipFile::Entry& find_storage(const Value& key, std::size_t numel, std::size_t size) const {
    if (key.kind != Kind::kString) fail("expected a storage's name", key);
    const ZipFile::Entry* entry = file_.zip->find(file_.prefix + "/data/" + std::string(key.text));
    if (entry == nullptr) fail("its storage " + printable(key.text) + " is missing");
    if (!entry->is_stored) fail("expected its storage stored, found it compressed");
    if (numel > entry->size / size) {
      fail("expected a storage of " + std::to_string(numel) + " elements of " +
           std::to_string(size) + " bytes, found " + std::to_string(entry->size) + " bytes");
    }
    return *entry;
  }

  /// Finds the end of the view, and that all of it lies in a storage of `numel` elements. A view
  /// has no more elements than its storage: it could repeat them at will.
  void check_view(TorchTensor& tensor, std::size_t numel) const {
    if (tensor.strides.size() != tensor.shape.size()) fail("expected a stride per dimension");
    const auto elements = checked_elements(tensor.shape, dtype_size(tensor.dtype));
    if (!elements || *elements > numel) {
      fail("expected at most the " + std::to_string(numel) + " elements of its storage, found " +
           describe(TensorView{tensor.dtype, tensor.shape, {}}));
    }
    if (*elements == 0) tensor.begin = 0;
    std::size_t last = tensor.begin;
    bool fits = true;
    for (std::size_t i = 0; i < tensor.shape.size() && *elements != 0; ++i) {
      if (tensor.shape[i] == 1) tensor.strides[i] = 0;  // of no effect, and may be anything
      std::size_t reach = 0;
      fits = fits && !__builtin_mul_overflow(tensor.shape[i] - 1, tensor.strides[i], &reach) &&
             !__builtin_add_overflow(last, reach, &last);
    }
    if (!fits || (*elements != 0 && last >= numel)) {
      fail("expected all elements within the " + std::to_string(numel) +
           " of its storage, found offset and strides beyond");
    }
    tensor.end = *elements == 0 ? 0 : last + 1;
  }

  const TorchFile& file_;
  const std::string what_;
};

std::vector<float> read_tensor(const ZipFile& zip, const TorchTensor& tensor,
                               const std::string& what) {
  const std::size_t size = dtype_size(tensor.dtype);
  if (tensor.end == 0) return to_floats(tensor.dtype, {}, what);
  to_floats(tensor.dtype, {}, what);  // a type beyond it is refused before all is read
  std::vector<float> values = to_floats(
      tensor.dtype,
      zip.read(tensor.storage, tensor.begin * size, (tensor.end - tensor.begin) * size), what);
  std::vector<std::size_t> dense = row_major_strides(tensor.shape);
  for (std::size_t i = 0; i < dense.size(); ++i) {
    if (tensor.shape[i] == 1) dense[i] = 0;
  }
  return tensor.strides == dense ? values : gather(values, tensor.shape, tensor.strides);
}

using Tensors = std::map<std::string, TorchTensor>;

/// What a dictionary holds: tensors, and what else.
struct Contents {
  Tensors tensors;
  std::map<std::string, std::string> others;
};

Contents read_dictionary(const TorchFile& file, const Value& dict) {
  const std::string& name = file.zip->name();
  Contents contents;
  for (std::size_t i = 0; i + 1 < dict.items.size(); i += 2) {
    const Value& key = file.pickle.at(dict.items[i]);
    const Value& value = file.pickle.at(dict.items[i + 1]);
    const std::string what =
        name + ": " +
        (key.kind == Kind::kString ? "tensor " + printable(key.text)
                                   : "what stands under " + file.pickle.describe(key));
    std::optional<TorchTensor> tensor = TensorReader(file, what).read(value);
    if (key.kind != Kind::kString) {
      if (!tensor) continue;
      throw Error(ErrorCode::kFormat, what + ": expected a string as the name of a tensor");
    }
    const std::string text(key.text);
    if (contents.tensors.contains(text) || contents.others.contains(text)) {
      throw Error(ErrorCode::kFormat, what + ": expected once, found twice");
    }
    if (tensor) {
      contents.tensors.emplace(text, std::move(*tensor));
    } else {
      contents.others.emplace(text, file.pickle.describe(value));
    }
  }
  return contents;
}

/// "; found 'model' (an object of 'a.B'), 'epoch' (an integer), ..."
std::string list_keys(const TorchFile& file) {
  constexpr std::size_t kShown = 8;
  const Value& root = file.pickle.root();
  if (root.kind != Kind::kDict) return ", found " + file.pickle.describe(root);
  std::string text = ", found";
  for (std::size_t i = 0; i + 1 < root.items.size() && i < 2 * kShown; i += 2) {
    const Value& key = file.pickle.at(root.items[i]);
    text += (i == 0 ? " " : ", ") +
            (key.kind == Kind::kString ? printable(key.text) : file.pickle.describe(key)) + " (" +
            file.pickle.describe(file.pickle.at(root.items[i + 1])) + ")";
  }
  if (root.items.empty()) return text + " an empty dictionary";
  return text + (root.items.size() > 2 * kShown ? ", ..." : "");
}

/// The dictionary of tensors, and how it was found.
std::pair<Contents, std::string> choose(const TorchFile& file, const std::string& key) {
  const Value& root = file.pickle.root();
  const auto read_key = [&](const char* candidate) -> Contents {
    const Value* value = root.kind == Kind::kDict ? file.pickle.find(root, candidate) : nullptr;
    if (value == nullptr || value->kind != Kind::kDict) return {};
    return read_dictionary(file, *value);
  };
  if (!key.empty()) {
    Contents contents = read_key(key.c_str());
    if (!contents.tensors.empty()) return {std::move(contents), key};
    throw Error(ErrorCode::kInvalidArgument, file.zip->name() +
                                                 ": expected a dictionary of tensors under " +
                                                 printable(key) + list_keys(file));
  }
  for (const char* usual : kUsualKeys) {
    Contents contents = read_key(usual);
    if (!contents.tensors.empty()) return {std::move(contents), usual};
  }
  if (root.kind == Kind::kDict) {
    Contents contents = read_dictionary(file, root);
    if (!contents.tensors.empty()) return {std::move(contents), "top level"};
  }
  throw Error(ErrorCode::kFormat,
              file.zip->name() +
                  ": expected a dictionary of tensors (a state_dict()), at the top level or under "
                  "one of its usual names" +
                  list_keys(file));
}

/// Drops the prefix that DataParallel puts before every name.
Tensors without_module_prefix(Tensors tensors) {
  constexpr std::string_view kPrefix = "module.";
  for (const auto& [name, tensor] : tensors) {
    if (!name.starts_with(kPrefix)) return tensors;
  }
  Tensors renamed;
  for (auto& [name, tensor] : tensors) {
    renamed.emplace(name.substr(kPrefix.size()), std::move(tensor));
  }
  return renamed;
}

}  // namespace

CheckpointSource open_torch_checkpoint(std::shared_ptr<const ZipFile> zip, const std::string& key) {
  const TorchFile file = open_torch_file(std::move(zip));
  auto [contents, where] = choose(file, key);
  CheckpointSource source;
  source.container = "PyTorch (" + (key.empty() ? where : printable(where)) + ")";
  source.others = std::move(contents.others);
  source.file_bytes = file.zip->file_bytes();
  Tensors tensors = without_module_prefix(std::move(contents.tensors));
  for (const auto& [name, tensor] : tensors) {
    const std::size_t elements = *checked_elements(tensor.shape, dtype_size(tensor.dtype));
    source.add(name, tensor.shape, std::string(dtype_name(tensor.dtype)),
               elements * dtype_size(tensor.dtype), file.zip->name());
  }
  source.read = [zip = file.zip, tensors = std::move(tensors)](const std::string& tensor,
                                                               const std::string& what) {
    return read_tensor(*zip, tensors.at(tensor), what);
  };
  return source;
}

}  // namespace intaglio
