// See state.h. Header, policy, tensors by rising id, CRC32C of all that; little-endian, nothing aligned.
#include "comm/state.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "base/crc32c.h"
#include "cgx/cgx.h"
#include "comm/policy_text.h"

namespace cgx {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr char kMagic[] = {'C', 'G', 'X', 'S', 'T', 'A', 'T', 'E'};
constexpr uint32_t kFormat = 1;
constexpr uint32_t kPolicyForAll = 1;  // of flags
// A run's header takes as many bytes as four elements: shorter gaps of zeros are not worth one.
constexpr uint64_t kGap = 4;

struct Header {
  char magic[8];
  uint32_t format;
  uint32_t version;  // of the library, for people
  uint32_t rank;
  uint32_t size;
  uint64_t seed;
  uint64_t operation;
  uint64_t bytes;  // of the whole state
  uint32_t flags;
  uint32_t policy_bytes;
  uint64_t tensors;
};
static_assert(sizeof(Header) == 64 && std::is_trivially_copyable_v<Header>);

// Then `runs` Runs, `count` residuals of contributions, and the runs' residuals of sums.
struct TensorHeader {
  uint32_t tensor_id;
  float scale;
  uint64_t plan;
  uint64_t count;
  uint64_t runs;
};
static_assert(sizeof(TensorHeader) == 32 && std::is_trivially_copyable_v<TensorHeader>);

// A stretch of elements outside of which the residual of sums is zero: a rank owns few of them.
struct Run {
  uint64_t first;
  uint64_t count;
};
static_assert(sizeof(Run) == 16 && std::is_trivially_copyable_v<Run>);

bool is_zero(float x) { return std::bit_cast<uint32_t>(x) == 0; }

std::vector<Run> runs_of(std::span<const float> x) {
  std::vector<Run> runs;
  for (uint64_t i = 0; i < x.size(); ++i) {
    if (is_zero(x[i])) continue;
    if (runs.empty() || i > runs.back().first + runs.back().count + kGap) runs.push_back({i, 0});
    runs.back().count = i - runs.back().first + 1;
  }
  return runs;
}

uint64_t bytes_of(const ErrorFeedback::Owed& owed, const std::vector<Run>& runs) {
  uint64_t elements = owed.contribution.size();
  for (const Run& run : runs) elements += run.count;
  return sizeof(TensorHeader) + runs.size() * sizeof(Run) + elements * sizeof(float);
}

class Writer {
 public:
  explicit Writer(uint8_t* out) : begin_(out), next_(out) {}
  void put(const void* from, size_t bytes) {
    if (bytes > 0) std::memcpy(next_, from, bytes);
    next_ += bytes;
  }
  template <typename T>
  void put(std::span<const T> all) {
    put(all.data(), all.size_bytes());
  }
  size_t written() const { return static_cast<size_t>(next_ - begin_); }
  uint32_t crc() const { return crc32c(0, begin_, written()); }

 private:
  uint8_t* begin_;
  uint8_t* next_;
};

// Takes from the front of what is left, never more than that.
class Reader {
 public:
  explicit Reader(std::span<const uint8_t> bytes) : left_(bytes) {}
  uint64_t left() const { return left_.size(); }

  template <typename T>
  bool get(T* out) {
    return get(out, 1);
  }
  template <typename T>
  bool get(T* out, uint64_t count) {
    if (count > left_.size() / sizeof(T)) return false;
    if (count > 0) std::memcpy(out, left_.data(), count * sizeof(T));
    left_ = left_.subspan(count * sizeof(T));
    return true;
  }
  // Resizes only if there is as much.
  template <typename T>
  bool get(std::vector<T>* out, uint64_t count) {
    if (count > left_.size() / sizeof(T)) return false;
    out->resize(count);
    return get(out->data(), count);
  }

 private:
  std::span<const uint8_t> left_;
};

template <typename... Args>
Status corrupt(fmt::format_string<Args...> format, Args&&... args) {
  return error(Code::kCorrupt,
               "this is no whole state of a communicator: {}; nothing was loaded, take another copy of it",
               fmt::format(format, std::forward<Args>(args)...));
}

Status check_header(const Header& header, std::span<const uint8_t> bytes) {
  if (std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0)
    return corrupt("it does not begin with CGXSTATE");
  if (header.format != kFormat) {
    return error(Code::kUnsupported,
                 "the state has format {}, written by cgx version number {}; this library reads format {}",
                 header.format, header.version, kFormat);
  }
  if (header.bytes != bytes.size()) return corrupt("it has {} bytes and says {}", bytes.size(), header.bytes);
  uint32_t crc = 0;
  const size_t checked = bytes.size() - sizeof(crc);
  std::memcpy(&crc, bytes.data() + checked, sizeof(crc));
  const uint32_t found = crc32c(0, bytes.data(), checked);
  if (crc != found) return corrupt("its checksum is {:08x}, that of its bytes {:08x}", crc, found);
  if ((header.flags & ~kPolicyForAll) != 0) return corrupt("it has unknown flags {:x}", header.flags);
  return Status();
}

Status check_place(const Header& header, int rank, int size) {
  if (header.rank == static_cast<uint32_t>(rank) && header.size == static_cast<uint32_t>(size)) {
    return Status();
  }
  return error(
      Code::kInvalidArgument,
      "the state is that of rank {} of {}, this is rank {} of {}: residuals belong to a rank's contributions "
      "and to the sums it owns; load each rank's own, and start without a state where the number of ranks "
      "has changed",
      header.rank, header.size, rank, size);
}

Result<std::optional<Profile>> read_profile(const std::string& text, int size) {
  if (text.empty()) return std::optional<Profile>();
  Result<Policy> policy = parse_policy(text, "in the state");
  if (!policy.ok()) return corrupt("{}", policy.status().message());
  if (policy->profile.size != size) return corrupt("its policy is for {} ranks", policy->profile.size);
  return std::optional<Profile>(std::move(policy->profile));
}

Status read_sums(Reader* from, const std::vector<Run>& runs, uint32_t tensor_id, std::span<float> sum) {
  uint64_t end = 0;
  for (const Run& run : runs) {
    if (run.first < end || run.first > sum.size() || run.count > sum.size() - run.first) {
      return corrupt("tensor {} has sums from {} on, {} of them, where {} to {} are left", tensor_id,
                     run.first, run.count, end, sum.size());
    }
    if (!from->get(sum.data() + run.first, run.count)) return corrupt("tensor {}'s sums are cut", tensor_id);
    end = run.first + run.count;
  }
  return Status();
}

Status read_tensor(Reader* from, std::optional<uint32_t>* last_id, ErrorFeedback* feedback) {
  TensorHeader header;
  if (!from->get(&header)) return corrupt("it ends before all its tensors");
  const uint32_t id = header.tensor_id;
  if (*last_id && id <= **last_id) return corrupt("tensor {} comes after tensor {}", id, **last_id);
  *last_id = id;
  if (!std::isfinite(header.scale) || header.scale <= 0)
    return corrupt("tensor {}: scale {}", id, header.scale);
  std::vector<Run> runs;
  std::vector<float> contribution;
  if (header.count == 0 || !from->get(&runs, header.runs) || !from->get(&contribution, header.count)) {
    return corrupt("tensor {} has {} elements in {} runs, and {} bytes are left", id, header.count,
                   header.runs, from->left());
  }
  std::vector<float> sum(header.count);  // as much as `contribution`, which was there
  CGX_RETURN_IF_ERROR(read_sums(from, runs, id, sum));
  return feedback->restore({id, {header.plan, header.scale}, contribution, sum});
}

}  // namespace

uint64_t state_bytes(const StateView& view) {
  uint64_t bytes = sizeof(Header) + view.policy.size() + sizeof(uint32_t);
  for (const ErrorFeedback::Owed& owed : view.owed) bytes += bytes_of(owed, runs_of(owed.sum));
  return bytes;
}

Status write_state(const StateView& view, std::span<uint8_t> out) {
  const uint64_t bytes = state_bytes(view);
  if (out.size() < bytes) {
    return error(Code::kInvalidArgument, "the state takes {} bytes, the memory given for it holds {}", bytes,
                 out.size());
  }
  Header header = {};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  header.format = kFormat;
  header.version = CGX_VERSION;
  header.rank = static_cast<uint32_t>(view.rank);
  header.size = static_cast<uint32_t>(view.size);
  header.seed = view.seed;
  header.operation = view.operation;
  header.bytes = bytes;
  header.flags = view.policy_for_all ? kPolicyForAll : 0;
  header.policy_bytes = static_cast<uint32_t>(view.policy.size());
  header.tensors = view.owed.size();
  Writer to(out.data());
  to.put(&header, sizeof(header));
  to.put(view.policy.data(), view.policy.size());
  for (const ErrorFeedback::Owed& owed : view.owed) {
    const std::vector<Run> runs = runs_of(owed.sum);
    const TensorHeader tensor{owed.tensor_id, owed.use.scale, owed.use.plan, owed.contribution.size(),
                              runs.size()};
    to.put(&tensor, sizeof(tensor));
    to.put(std::span<const Run>(runs));
    to.put(owed.contribution);
    for (const Run& run : runs) to.put(owed.sum.subspan(run.first, run.count));
  }
  const uint32_t crc = to.crc();
  to.put(&crc, sizeof(crc));
  CGX_CHECK(to.written() == bytes);
  return Status();
}

Result<State> read_state(std::span<const uint8_t> bytes, int rank, int size) {
  Header header;
  if (bytes.size() < sizeof(header) + sizeof(uint32_t)) return corrupt("it has only {} bytes", bytes.size());
  std::memcpy(&header, bytes.data(), sizeof(header));
  CGX_RETURN_IF_ERROR(check_header(header, bytes));
  CGX_RETURN_IF_ERROR(check_place(header, rank, size));
  Reader from(bytes.subspan(sizeof(header), bytes.size() - sizeof(header) - sizeof(uint32_t)));
  std::vector<char> policy;
  if (!from.get(&policy, header.policy_bytes)) return corrupt("its policy is cut");
  State state;
  state.seed = header.seed;
  state.operation = header.operation;
  state.policy_for_all = (header.flags & kPolicyForAll) != 0;
  CGX_ASSIGN_OR_RETURN(state.profile, read_profile(std::string(policy.begin(), policy.end()), size));
  if (state.policy_for_all && !state.profile) return corrupt("it has no policy and says that it decides");
  std::optional<uint32_t> last_id;
  for (uint64_t i = 0; i < header.tensors; ++i) {
    CGX_RETURN_IF_ERROR(read_tensor(&from, &last_id, &state.feedback));
  }
  if (from.left() > 0) return corrupt("{} bytes follow its last tensor", from.left());
  return state;
}

}  // namespace cgx
