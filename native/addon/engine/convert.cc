#include "addon/engine/convert.h"

namespace fg {

TokenLists token_lists(const Napi::Value& value, const std::string& name, int64_t vocab) {
  const Napi::Object o = object_at(value, name);
  TokenLists lists;
  lists.tokens = int32s_at(o, "tokens");
  const std::vector<int32_t> offsets = int32s_at(o, "offsets");
  lists.offsets.assign(offsets.begin(), offsets.end());
  const auto total = static_cast<int64_t>(lists.tokens.size());
  if (offsets.empty() || offsets.front() != 0 || offsets.back() != total)
    throw bad_argument(name, "offsets from 0 to the number of tokens");
  for (int64_t i = 0; i < lists.count(); ++i)
    if (lists.length(i) < 0) throw bad_argument(name, "offsets that never fall");
  for (const int32_t id : lists.tokens)
    if (id < 0 || id >= vocab)
      throw UserError(UserError::Kind::range, "ERR_INVALID_ARG",
                      "Expected token ids from 0 to " + std::to_string(vocab - 1) + " in " + name + " but received " +
                          std::to_string(id));
  return lists;
}

}  // namespace fg
