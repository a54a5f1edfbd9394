// Kernels of a device that torch calls "hpu", whose memory is the processor's own: each operation is
// computed by the processor. It refuses what a device of its own memory would refuse, and counts the
// shapes of the products that it is asked for.

#include <ATen/EmptyTensor.h>
#include <ATen/detail/HPUHooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/as_strided_cpu_dispatch.h>
#include <ATen/ops/set_cpu_dispatch.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/Allocator.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/csrc/distributed/c10d/Work.hpp>
#include <torch/custom_class.h>
#include <torch/library.h>

#include <cstdlib>
#include <mutex>
#include <set>
#include <string>

namespace {

constexpr auto HPU = c10::DeviceType::HPU;

size_t taken = 0;
size_t most = 0;
size_t marked = 0;
std::mutex lock;
std::set<std::string> shapes;

struct Block {
  void* data;
  size_t size;
};

void give_back(void* context) {
  auto* block = static_cast<Block*>(context);
  taken -= block->size;
  std::free(block->data);
  delete block;
}

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t size) override {
    void* data = nullptr;
    if (size && posix_memalign(&data, 64, size)) {
      throw std::bad_alloc();
    }
    taken += size;
    most = std::max(most, taken);
    return {data, new Block{data, size}, &give_back, c10::Device(HPU, 0)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, size_t count) const override {
    default_copy_data(to, from, count);
  }
};

Memory memory;
REGISTER_ALLOCATOR(HPU, &memory);

struct Guard final : c10::impl::DeviceGuardImplInterface {
  static constexpr c10::DeviceType static_type = HPU;
  c10::DeviceType type() const override { return HPU; }
  c10::Device exchangeDevice(c10::Device device) const override { return c10::Device(HPU, 0); }
  c10::Device getDevice() const override { return c10::Device(HPU, 0); }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device device) const override {
    return c10::Stream(c10::Stream::DEFAULT, c10::Device(HPU, 0));
  }
  c10::Stream getNewStream(c10::Device, int = 0) const override {
    return c10::Stream(c10::Stream::DEFAULT, c10::Device(HPU, 0));
  }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
};

C10_REGISTER_GUARD_IMPL(HPU, Guard);

struct HPUHooks final : at::HPUHooksInterface {
  explicit HPUHooks(at::HPUHooksArgs) {}
  void init() const override {}
  bool hasHPU() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
};

using at::HPUHooksArgs;
using at::HPUHooksRegistry;
using at::RegistererHPUHooksRegistry;
REGISTER_HPU_HOOKS(HPUHooks);

at::Tensor empty(c10::SymIntArrayRef size, std::optional<at::ScalarType> dtype,
                 std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>,
                 std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(C10_AS_INTARRAYREF_SLOW(size), &memory,
                                   c10::DispatchKeySet(c10::DispatchKey::HPU),
                                   dtype.value_or(at::kFloat), format);
}

at::Tensor empty_strided(c10::SymIntArrayRef size, c10::SymIntArrayRef stride,
                         std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                         std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(
      C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), &memory,
      c10::DispatchKeySet(c10::DispatchKey::HPU), dtype.value_or(at::kFloat));
}

// The same memory, seen as the processor's.
at::Tensor on_processor(const at::Tensor& tensor) {
  if (tensor.device().type() != HPU) {
    return tensor;
  }
  auto storage = tensor.storage();
  auto whole = at::from_blob(storage.mutable_data(), {(int64_t)(storage.nbytes() / tensor.itemsize())},
                             [storage](void*) {}, tensor.options().device(at::kCPU));
  return whole.as_strided(tensor.sizes(), tensor.strides(), tensor.storage_offset());
}

at::Tensor& copy_(at::Tensor& self, const at::Tensor& from, bool) {
  on_processor(self).copy_(on_processor(from));
  return self;
}

at::Tensor copy_from(const at::Tensor& self, const at::Tensor& to, bool) {
  on_processor(to).copy_(on_processor(self));
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& self, const at::Tensor& to) {
  to.resize_(self.sizes());
  on_processor(to).copy_(on_processor(self));
  return to;
}

const at::Tensor& resize_(const at::Tensor& self, c10::SymIntArrayRef size,
                          std::optional<at::MemoryFormat>) {
  auto wanted = C10_AS_INTARRAYREF_SLOW(size);
  if (wanted == self.sizes()) {
    return self;
  }
  auto* tensor = self.unsafeGetTensorImpl();
  auto bytes = at::detail::computeStorageNbytesContiguous(
      wanted, self.itemsize(), self.storage_offset());
  if (bytes > self.storage().nbytes()) {
    auto fresh = memory.allocate(bytes);
    memory.copy_data(fresh.get(), self.storage().data(), self.storage().nbytes());
    self.storage().unsafeGetStorageImpl()->set_data_ptr_noswap(std::move(fresh));
    self.storage().unsafeGetStorageImpl()->set_nbytes(bytes);
  }
  tensor->set_sizes_contiguous(wanted);
  return self;
}

at::Scalar local_scalar_dense(const at::Tensor& self) { return on_processor(self).item(); }

at::Tensor as_strided(const at::Tensor& self, c10::SymIntArrayRef size, c10::SymIntArrayRef stride,
                      std::optional<c10::SymInt> offset) {
  return at::cpu::as_strided(
      self, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride),
      offset ? std::make_optional(offset->guard_int(__FILE__, __LINE__)) : std::nullopt);
}

at::Tensor view(const at::Tensor& self, c10::SymIntArrayRef size) {
  return at::native::view(self, C10_AS_INTARRAYREF_SLOW(size));
}

at::Tensor reshape_alias(const at::Tensor& self, c10::SymIntArrayRef size,
                         c10::SymIntArrayRef stride) {
  return at::native::_reshape_alias(self, C10_AS_INTARRAYREF_SLOW(size),
                                    C10_AS_INTARRAYREF_SLOW(stride));
}

at::Tensor& set_source(at::Tensor& self, at::Storage source, c10::SymInt offset,
                       c10::SymIntArrayRef size, c10::SymIntArrayRef stride) {
  return at::cpu::set_(self, source, offset.guard_int(__FILE__, __LINE__),
                       C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride));
}

at::Tensor& set_whole(at::Tensor& self, at::Storage source) {
  const int64_t size = source.nbytes() / self.itemsize();
  return at::cpu::set_(self, source, 0, {size}, {1});
}

// What a tensor of the processor has no business in; a number alone is sent along by all devices,
// and places to be looked up may be named by either.
void refuse_strangers(const c10::OperatorHandle& op, const torch::jit::Stack& stack) {
  const auto& name = op.schema().name();
  if (name.find("index") != std::string::npos) {
    return;
  }
  const auto count = op.schema().arguments().size();
  for (const auto& value : torch::jit::last(stack, count)) {
    if (value.isTensor() && value.toTensor().defined()) {
      const auto& tensor = value.toTensor();
      TORCH_CHECK(tensor.device().type() == HPU || tensor.dim() == 0, name,
                  ": expected all tensors to be on hpu, but one of shape ", tensor.sizes(),
                  " is on ", tensor.device());
    }
  }
}

void count_shapes(const c10::OperatorHandle& op, const torch::jit::Stack& stack) {
  const auto& name = op.schema().name();
  if (name != "aten::mm" && name != "aten::bmm" && name != "aten::addmm") {
    return;
  }
  std::stringstream words;
  words << name;
  for (const auto& value : torch::jit::last(stack, op.schema().arguments().size())) {
    if (value.isTensor() && value.toTensor().defined()) {
      words << " " << value.toTensor().sizes();
    }
  }
  std::lock_guard<std::mutex> guard(lock);
  shapes.insert(words.str());
}

// Workers talk to each other about the same memory. It is filled when this returns, since what waits
// for it later looks for the device's own streams.
void connect(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto count = op.schema().arguments().size();
  for (auto at = stack->size() - count; at < stack->size(); ++at) {
    auto& value = (*stack)[at];
    if (value.isTensor() && value.toTensor().defined()) {
      value = on_processor(value.toTensor());
    } else if (value.isTensorList()) {
      c10::List<at::Tensor> own;
      for (const at::Tensor& tensor : value.toTensorVector()) {
        own.push_back(on_processor(tensor));
      }
      value = own;
    }
  }
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  for (const auto& value : torch::jit::last(*stack, op.schema().returns().size())) {
    if (value.isCustomClass()) {
      value.toCustomClass<c10d::Work>()->wait();
    }
  }
}

void compute(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  if (op.schema().name().rfind("c10d::", 0) == 0) {
    connect(op, stack);
    return;
  }
  refuse_strangers(op, *stack);
  count_shapes(op, *stack);
  at::native::cpu_fallback(op, stack);
}

}  // namespace

TORCH_LIBRARY_IMPL(_, HPU, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&compute>()); }

TORCH_LIBRARY_IMPL(aten, HPU, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("copy_", &copy_);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  m.impl("resize_", &resize_);
  m.impl("_local_scalar_dense", &local_scalar_dense);
  m.impl("as_strided", &as_strided);
  m.impl("view", &view);
  m.impl("_reshape_alias", &reshape_alias);
  m.impl("set_.source_Storage", &set_whole);
  m.impl("set_.source_Storage_storage_offset", &set_source);
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("max_memory_allocated", [] { return most; });
  m.def("mark_step", [] { ++marked; });
  m.def("steps_marked", [] { return marked; });
  m.def("shapes", [] { return shapes; });
  m.def("forget", [] {
    shapes.clear();
    marked = 0;
  });
}
