// A model's list of parameters and the buckets in which PyTorch's DDP averages their gradients.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace cgx::bench {

struct Layer {
  uint64_t first;  // element in its bucket
  uint64_t count;
  bool compressed;  // by default: two dimensions and 1024 elements at least
  uint32_t id;
};

struct Bucket {
  uint64_t first;  // element in the flat model; between buckets some are left out
  uint64_t count;
  std::vector<Layer> layers;
};

// "resnet50", "gpt2", or a file in their format. Buckets of 1 MiB and then 25 MiB, in the order in which a
// backward pass makes the gradients: the last parameter first. Throws UsageError.
std::vector<Bucket> model_buckets(const std::string& model);

}  // namespace cgx::bench
