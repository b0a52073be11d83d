// See handles.h.
#include "comm/handles.h"

#include <mutex>
#include <shared_mutex>
#include <unordered_map>

namespace cgx {
namespace {

struct Table {
  std::shared_mutex mutex;
  std::unordered_map<const void*, HandleKind> live;
};

// Made at the first handle and never destroyed: threads may outlive main().
Table& table() {
  static Table* const kTable = new Table;
  return *kTable;
}

const char* kind_name(HandleKind kind) {
  constexpr const char* kNames[] = {"codec", "store", "communicator", "work"};
  return kNames[static_cast<size_t>(kind)];
}

}  // namespace

void add_handle(const void* handle, HandleKind kind) {
  Table& t = table();
  const std::unique_lock lock(t.mutex);
  t.live.insert_or_assign(handle, kind);
}

bool remove_handle(const void* handle, HandleKind kind) {
  Table& t = table();
  const std::unique_lock lock(t.mutex);
  const auto it = t.live.find(handle);
  if (it == t.live.end() || it->second != kind) return false;
  t.live.erase(it);
  return true;
}

Status check_handle(const void* handle, HandleKind kind, const char* argument) {
  if (handle == nullptr) return error(Code::kInvalidArgument, "{} is NULL", argument);
  Table& t = table();
  const std::shared_lock lock(t.mutex);
  const auto it = t.live.find(handle);
  if (it != t.live.end() && it->second == kind) return Status();
  return error(Code::kInvalidArgument, "{} is no live {}: it was destroyed, or is something else", argument,
               kind_name(kind));
}

}  // namespace cgx
