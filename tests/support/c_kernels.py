"""The C kernels as Python functions on numpy arrays, with the signatures of `reference.py`.

They are compiled by the host's compiler, or ziglang's, once a session; every output buffer has
guard bytes around it, and a kernel that writes beyond fails with `AssertionError`.
"""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tinyml_compiler import quant, reference

Array = npt.NDArray[Any]
RUNTIME = Path(__file__).resolve().parents[2] / "device_runtime"
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wvla", "-Wpedantic", "-Werror")
GUARD = 64

# Property tests want requant.h's inline function and many values a call.
_SHIM = """
#include "tml/requant.h"
void requantize_all(uint32_t n, const int32_t *x, const int32_t *multiplier, const int8_t *shift,
                    int32_t *out);
void requantize_all(uint32_t n, const int32_t *x, const int32_t *multiplier, const int8_t *shift,
                    int32_t *out) {
  for (uint32_t i = 0; i < n; i++) out[i] = tml_requantize(x[i], multiplier[i], shift[i]);
}
"""


def runtime_sources() -> list[Path]:
    """The C files of the runtime without firmware and ports."""
    folders = (RUNTIME / "src" / "core", RUNTIME / "src" / "kernels")
    own = {RUNTIME / "src" / "core" / name for name in ("tml_model.c", "tml_string.c")}
    found = {f for folder in folders for f in folder.rglob("*.c")}
    return sorted(own | {f for f in found if "kernels" in f.parts})


def host_compiler() -> list[str]:
    for name in ("gcc", "clang"):
        if shutil.which(name):
            return [name]
    return [sys.executable, "-m", "ziglang", "cc"]


@functools.cache
def load_kernels() -> Kernels:
    with tempfile.TemporaryDirectory(prefix="tml-kernels-") as folder:
        shim = Path(folder, "shim.c")
        shim.write_text(_SHIM)
        library = Path(folder, "kernels.so")
        subprocess.run(
            [
                *host_compiler(),
                *("-std=c11", "-O2", "-shared", "-fPIC", *WARNINGS),
                # A broken contract ends the test run rather than passing unseen.
                "-DTML_CHECKED",
                *("-I", str(RUNTIME / "include"), "-o", str(library), str(shim)),
                *map(str, runtime_sources()),
            ],
            check=True,
        )
        return Kernels(ctypes.CDLL(str(library)))


def _struct(name: str, kind: Any, *fields: str) -> type[ctypes.Structure]:
    return type(name, (ctypes.Structure,), {"_fields_": [(f, kind) for f in fields]})


class _Window(ctypes.Structure):
    _fields_ = [
        *((n, ctypes.c_uint16) for n in ("input_h", "input_w", "input_c")),
        *((n, ctypes.c_uint16) for n in ("output_h", "output_w", "output_c")),
        *((n, ctypes.c_uint16) for n in ("filter_h", "filter_w")),
        *((n, ctypes.c_uint8) for n in ("stride_h", "stride_w", "dilation_h", "dilation_w")),
        *((n, ctypes.c_uint16) for n in ("pad_top", "pad_left")),
    ]


class _Scale(ctypes.Structure):
    _fields_ = [("scale", ctypes.c_float), ("zero_point", ctypes.c_int32)]


class _Broadcast(ctypes.Structure):
    _fields_ = [(n, ctypes.c_uint32 * 4) for n in ("dims", "stride1", "stride2")]


class _PadShape(ctypes.Structure):
    _fields_ = [(n, ctypes.c_uint32 * 4) for n in ("dims", "before", "after")]


_I32, _U32, _PTR = ctypes.c_int32, ctypes.c_uint32, ctypes.c_void_p
_Quant = _struct(
    "_Quant", _I32, "input_zero_point", "output_zero_point", "activation_min", "activation_max"
)
_Channels = _struct("_Channels", _PTR, "bias", "multiplier", "shift")
_FullyConnected = _struct("_FullyConnected", _U32, "rows", "in_features", "out_features")
_MeanShape = _struct("_MeanShape", _U32, "outer", "reduced", "inner")
_SoftmaxShape = _struct("_SoftmaxShape", _U32, "rows", "depth")
_Mean = _struct("_Mean", _I32, *quant.MeanParams.__dataclass_fields__)
_Add = _struct("_Add", _I32, *quant.AddParams.__dataclass_fields__)
_Softmax = _struct("_Softmax", _I32, *quant.SoftmaxParams.__dataclass_fields__)
_Requantize = _struct("_Requantize", _I32, *quant.RequantizeParams.__dataclass_fields__)


class Kernels:
    """`in_place` kernels are run twice, into a buffer of their own and over their input."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def conv2d(
        self,
        window: reference.Window,
        params: reference.Quant,
        channels: reference.Channels,
        filter_: Array,
        x: Array,
    ) -> Array:
        o, h, w, _ = filter_.shape
        return self._conv("tml_conv2d_s8", window, params, channels, filter_, x, (h, w), o)

    def depthwise_conv2d(
        self,
        window: reference.Window,
        params: reference.Quant,
        channels: reference.Channels,
        filter_: Array,
        x: Array,
    ) -> Array:
        h, w, o = filter_.shape
        name = "tml_depthwise_conv2d_s8"
        return self._conv(name, window, params, channels, filter_, x, (h, w), o)

    def fully_connected(
        self, params: reference.Quant, channels: reference.Channels, filter_: Array, x: Array
    ) -> Array:
        shape = _FullyConnected(x.shape[0], *reversed(filter_.shape))
        out = Guarded((x.shape[0], filter_.shape[0]), np.int8)
        self._call(
            "tml_fully_connected_s8",
            shape,
            _fields(_Quant, params),
            _channels(channels),
            filter_,
            x,
            out,
        )
        return out.checked()

    def average_pool2d(
        self, window: reference.Window, params: reference.Quant, size: tuple[int, int], x: Array
    ) -> Array:
        return self._pool("tml_average_pool2d_s8", window, params, size, x)

    def max_pool2d(
        self, window: reference.Window, params: reference.Quant, size: tuple[int, int], x: Array
    ) -> Array:
        return self._pool("tml_max_pool2d_s8", window, params, size, x)

    def mean(self, params: quant.MeanParams, x: Array) -> Array:
        out = Guarded((x.shape[0], x.shape[2]), np.int8)
        self._call("tml_mean_s8", _MeanShape(*x.shape), _fields(_Mean, params), x, out)
        return out.checked()

    def add(self, params: quant.AddParams, x1: Array, x2: Array) -> Array:
        shape = np.broadcast_shapes(x1.shape, x2.shape)
        dims = (1,) * (4 - len(shape)) + shape
        b = _Broadcast(_four(dims), _four(_strides(x1, dims)), _four(_strides(x2, dims)))
        p = _fields(_Add, params)
        out = Guarded(shape, np.int8)
        self._call("tml_add_s8", b, p, x1, x2, out)
        if x1.shape == x2.shape:
            for which in (0, 1):
                buffers = [x1.copy(), x2.copy()]
                self._call("tml_add_s8", b, p, *buffers, buffers[which])
                np.testing.assert_array_equal(buffers[which], out.checked())
        return out.checked()

    def softmax(self, params: quant.SoftmaxParams, x: Array) -> Array:
        shape, p = _SoftmaxShape(*x.shape), _fields(_Softmax, params)
        return self._in_place("tml_softmax_s8", x, shape, p)

    def requantize(self, params: quant.RequantizeParams, x: Array) -> Array:
        count = _U32(x.size)
        return self._in_place("tml_requantize_s8", x, count, _fields(_Requantize, params))

    def quantize_f32_s8(self, scale: float, zero_point: int, x: Array) -> Array:
        out = Guarded(x.shape, np.int8)
        self._call("tml_quantize_f32_s8", _U32(x.size), _Scale(scale, zero_point), x, out)
        return out.checked()

    def dequantize_s8_f32(self, scale: float, zero_point: int, x: Array) -> Array:
        out = Guarded(x.shape, np.float32)
        self._call("tml_dequantize_s8_f32", _U32(x.size), _Scale(scale, zero_point), x, out)
        return out.checked()

    def pad(self, paddings: Sequence[tuple[int, int]], value: int, x: Array) -> Array:
        before, after = zip(*paddings, strict=True)
        out = Guarded(tuple(np.array(x.shape) + before + after), np.int8)
        shape = _PadShape(_four(x.shape), _four(before), _four(after))
        self._call("tml_pad_s8", shape, ctypes.c_int8(value), x, out)
        return out.checked()

    def requantize_all(self, x: Array, multiplier: Array, shift: Array) -> Array:
        out = Guarded(x.shape, np.int32)
        arrays = (
            x.astype(np.int32),
            multiplier.astype(np.int32),
            shift.astype(np.int8),
        )
        self._call("requantize_all", _U32(x.size), *arrays, out)
        return out.checked()

    def _conv(
        self,
        name: str,
        window: reference.Window,
        params: reference.Quant,
        channels: reference.Channels,
        filter_: Array,
        x: Array,
        size: tuple[int, int],
        outputs: int,
    ) -> Array:
        out = Guarded((window.output_h, window.output_w, outputs), np.int8)
        self._call(
            name,
            _window(window, x, size, outputs),
            _fields(_Quant, params),
            _channels(channels),
            filter_,
            x,
            out,
        )
        return out.checked()

    def _pool(
        self,
        name: str,
        window: reference.Window,
        params: reference.Quant,
        size: tuple[int, int],
        x: Array,
    ) -> Array:
        out = Guarded((window.output_h, window.output_w, x.shape[2]), np.int8)
        w = _window(window, x, size, x.shape[2])
        self._call(name, w, _fields(_Quant, params), x, out)
        return out.checked()

    def _in_place(self, name: str, x: Array, *leading: Any) -> Array:
        out, over = Guarded(x.shape, np.int8), x.copy()
        self._call(name, *leading, x, out)
        self._call(name, *leading, over, over)
        np.testing.assert_array_equal(over, out.checked())
        return out.checked()

    def _call(self, name: str, *arguments: Any) -> None:
        function = self._library[name]
        function.restype = None
        alive = [np.ascontiguousarray(a) if isinstance(a, np.ndarray) else a for a in arguments]
        passed: list[Any] = []
        for a in alive:
            if isinstance(a, Guarded):
                passed.append(_PTR(a.address))
            elif isinstance(a, np.ndarray):
                passed.append(_PTR(a.ctypes.data))
            elif isinstance(a, _ByValue):
                passed.append(a.struct)
            elif isinstance(a, ctypes.Structure):
                passed.append(ctypes.byref(a))
            else:
                passed.append(a)
        function(*passed)


class Guarded:
    """An output buffer between guard bytes."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self._shape, self._dtype = shape, np.dtype(dtype)
        self._bytes = int(np.prod(shape)) * self._dtype.itemsize
        self._buffer = np.full(self._bytes + 2 * GUARD, 0xA5, dtype=np.uint8)
        self.address = self._buffer.ctypes.data + GUARD

    def checked(self) -> Array:
        end = GUARD + self._bytes
        assert (self._buffer[:GUARD] == 0xA5).all(), "the kernel wrote before its output"
        assert (self._buffer[end:] == 0xA5).all(), "the kernel wrote after its output"
        inner: Array = self._buffer[GUARD:end].view(self._dtype).reshape(self._shape)
        return inner


class _ByValue:
    def __init__(self, struct: ctypes.Structure, *alive: Array) -> None:
        self.struct, self._alive = struct, alive


def _window(w: reference.Window, x: Array, size: tuple[int, int], outputs: int) -> _Window:
    return _Window(
        *x.shape,
        *(w.output_h, w.output_w, outputs),
        *size,
        *(w.stride_h, w.stride_w, w.dilation_h, w.dilation_w),
        *(w.pad_top, w.pad_left),
    )


def _channels(c: reference.Channels) -> _ByValue:
    arrays = (
        np.ascontiguousarray(c.bias, np.int32),
        np.ascontiguousarray(c.multiplier, np.int32),
        np.ascontiguousarray(c.shift, np.int8),
    )
    return _ByValue(_Channels(*(a.ctypes.data for a in arrays)), *arrays)


def _fields(kind: type[ctypes.Structure], params: Any) -> ctypes.Structure:
    return kind(*(getattr(params, name) for name, *_ in kind._fields_))


def _four(values: Sequence[int]) -> Any:
    return (_U32 * 4)(*(int(v) for v in values))


def _strides(x: Array, dims: tuple[int, ...]) -> list[int]:
    """Elements, outermost first; 0 where the dimension repeats."""
    own = (1,) * (len(dims) - x.ndim) + x.shape
    return [
        0 if n == 1 and d != 1 else int(np.prod(own[i + 1 :]))
        for i, (n, d) in enumerate(zip(own, dims, strict=True))
    ]
